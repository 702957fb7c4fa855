// Fatbins from either writer: the cubin is inside as it was, and a schedule can
// be written into it.
#include "codegen/Fatbin.h"
#include "Nvrtc.h"
#include "runtime/format/CubinPatch.h"
#include "test/device/SamplePlans.h"

#include <algorithm>
#include <filesystem>

using namespace calibatt;
using namespace calibatt::test;

namespace {

/// A kernel with a built-in schedule symbol.
const SamplePlan &sample() {
  static const SamplePlan plan = makeSample("runs", Form::Runs, 64, 420, 1, 0.6, 11);
  return plan;
}

const std::vector<uint8_t> &sampleCubin() {
  static const std::vector<uint8_t> cubin = [] {
    auto kernel = nvrtc().compile(emitKernel(sample().plan), kernelSymbol(sample().plan), sm90a());
    REQUIRE_MESSAGE(kernel, (kernel ? "" : kernel.message()));
    return kernel->cubin;
  }();
  return cubin;
}

void checkWriter(const FatbinWriter &writer) {
  CAPTURE(writer.version());
  auto fatbin = writer.write(sampleCubin(), sm90a());
  REQUIRE_MESSAGE(fatbin, (fatbin ? "" : fatbin.message()));
  auto again = writer.write(sampleCubin(), sm90a());
  REQUIRE(again);
  CHECK(*fatbin == *again);
  auto inside = findCubin(*fatbin);
  REQUIRE_MESSAGE(inside, (inside ? "" : inside.message()));
  CHECK(std::vector<uint8_t>(inside->begin(), inside->end()) == sampleCubin());

  auto capacity = symbolCapacity(*fatbin);
  REQUIRE_MESSAGE(capacity, (capacity ? "" : capacity.message()));
  CHECK(*capacity == sample().plan.scheduleCapacity);
  std::vector<uint8_t> image = buildScheduleImage(sample().schedule, Form::Runs);
  Status patched = patchScheduleSymbol(*fatbin, image);
  REQUIRE_MESSAGE(patched, (patched ? "" : patched.message()));
  CHECK(std::search(fatbin->begin(), fatbin->end(), image.begin(), image.end()) != fatbin->end());
}

} // namespace

TEST_CASE("a fatbin writer is found and its fatbins can be patched") {
  auto writer = FatbinWriter::load();
  REQUIRE_MESSAGE(writer, (writer ? "" : writer.message()));
  checkWriter(*writer);
}

TEST_CASE("the library and the program both work where they are there") {
  auto library = FatbinWriter::fromLibrary();
  if (library)
    checkWriter(*library);
  else
    MESSAGE("skipped: " << library.message());
  auto program = FatbinWriter::fromProgram();
  if (program)
    checkWriter(*program);
  else
    MESSAGE("skipped: " << program.message());
}

TEST_CASE("bytes that are no cubin are refused and no temporary folder stays") {
  namespace fs = std::filesystem;
  fs::path folder = fs::path(CALIBATT_BINARY_DIR) / "fatbin_test_tmp";
  fs::remove_all(folder);
  fs::create_directories(folder);
  setenv("TMPDIR", folder.c_str(), 1);
  for (auto make : {FatbinWriter::fromLibrary, FatbinWriter::fromProgram}) {
    auto writer = make();
    if (!writer)
      continue;
    CAPTURE(writer->version());
    std::vector<uint8_t> noise(4096, 0x5A);
    CHECK(!writer->write(noise, sm90a()));
    CHECK(!writer->write({}, sm90a()));
  }
  unsetenv("TMPDIR");
  CHECK(fs::is_empty(folder));
  fs::remove_all(folder);
}

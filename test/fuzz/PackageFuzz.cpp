// Packages: as damaged files, and, since the digest stops those early, as forged
// ones: damaged files whose digest fits again.
#include "runtime/format/Package.h"
#include "runtime/format/ScheduleEncoder.h"
#include "test/fuzz/RenewedDigest.h"

using namespace calibatt;

namespace {

/// 420 tokens, 2 heads, the second repetitive.
constexpr const char *kUnrolledText =
    "constexpr calibatt::AttentionSpec kSpec{.tokens = 420, .grid_height = 7, "
    ".grid_width = 20, .anchors = 5};\nconstexpr unsigned kHeads = 2;\n"
    "__device__ const unsigned short kRowClass[] = {\n0, 0, 0, 0,\n"
    "32768, 32768, 32768, 65535,\n};\n"
    "unsigned produce_0(calibatt::RunLookup p) {\np.run<0, 0, 4>();\nreturn p.end<4>();\n}\n";

/// Gives one kernel a data image, and one an unrolled text, with a repetitive head.
void addRepetitiveHeads(test::Random &random, test::PackageContent &content) {
  const Schedule schedule =
      test::withAnchors(test::randomSchedule(random, 420, 2, 0.4), AnchorGrid{7, 20, 5});
  KernelRecord &image = content.kernels.front(), &text = content.kernels.back();
  image.data = uint32_t(content.datas.size());
  image.visits = test::visitsOf(schedule);
  content.datas.push_back(buildScheduleImage(schedule, content.codes[image.code].form));
  CodeImage unrolled = content.codes.front();
  unrolled.form = Form::Full;
  unrolled.symbol += "_full";
  unrolled.cuda = kUnrolledText;
  text.code = uint32_t(content.codes.size());
  text.data = kNone;
  content.codes.push_back(std::move(unrolled));
}

/// Two schedules that differ in one block, the second stored as that.
void addDifference(test::Random &random, PackageWriter &writer) {
  ScheduleEncoder encoder;
  ScheduleMasks masks = masksOf(test::randomSchedule(random, 420, 2, 0.5));
  for (int step = 0; step < 2; ++step) {
    (void)encoder.add(masks, buildScheduleImage(masks, Form::Table));
    masks.row(0, 1)[0] ^= masks.row(0, 1)[0] == 1 ? 2 : 1; // never to nothing
  }
  (void)writer.addSchedules(encoder.take());
}

/// Opens a package and reads all of it, as a runtime would.
void readAll(const std::string &path) {
  Result<PackageReader> package = PackageReader::open(path);
  if (!package)
    return;
  const Problem &p = package->manifest().problem;
  for (uint32_t i = 0; i < package->codeCount(); ++i) {
    (void)package->codeInfo(i);
    (void)package->fatbin(i);
    (void)package->cuda(i);
    (void)package->ptx(i);
  }
  for (uint32_t i = 0; i < package->dataCount(); ++i)
    (void)package->data(i);
  for (uint32_t i = 0; i < package->kernelCount(); ++i) {
    const KernelRecord &kernel = package->kernel(i);
    std::vector<uint8_t> image;
    if (kernel.data == kNone) {
      if (Result<std::string> cuda = package->cuda(kernel.code))
        (void)decodeEmittedSchedule(*cuda, "text");
    } else if (Result<std::vector<uint8_t>> data = package->data(kernel.data)) {
      image = data.take();
      test::expect(bool(decodeScheduleImage(image, "data")),
                   "an image that was made again is an image");
    }
    if (kernel.data != kNone && image.empty())
      continue; // and so without an order
    Result<std::vector<uint16_t>> order = package->tileOrder(i, image);
    if (order)
      test::expect(order->size() == uint64_t(kernel.heads) * p.blocks(), "an order has all rows");
  }
  for (uint32_t layer = 0; layer < p.layers; ++layer) {
    (void)package->ir(layer);
    for (uint32_t head = 0; head < p.heads; ++head)
      for (uint32_t step = 0; step < p.steps; ++step) {
        (void)package->stats(layer, head, step);
        test::expect(package->route(layer, head, step) < package->kernelCount(),
                     "a route leads to a kernel");
      }
  }
}

} // namespace

std::vector<std::vector<uint8_t>> test::fuzzSeeds(Random &random) {
  ScratchFolder folder;
  std::vector<std::vector<uint8_t>> seeds;
  for (const bool anchors : {false, true}) {
    PackageContent content = randomContent(random, 40);
    if (anchors)
      addRepetitiveHeads(random, content);
    const std::string path = folder.file("m.calibatt");
    PackageWriter writer = fill(content);
    addDifference(random, writer);
    expect(bool(writer.write(path)), "the seed is well-formed");
    const auto package = PackageReader::open(path);
    expect(package && package->scheduleReference(package->dataCount() - 1) != kNone,
           "the seed has a schedule that is stored as a difference");
    seeds.push_back(readBytes(path));
  }
  return seeds;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  std::span<const uint8_t> bytes(data, size);
  test::MemoryFile damaged(bytes);
  readAll(damaged.path());
  if (std::vector<uint8_t> forged = test::withRenewedDigest(bytes, damaged.path()); !forged.empty())
    readAll(test::MemoryFile(forged).path());
  return 0;
}

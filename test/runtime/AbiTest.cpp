// The C ABI: what it reports, and what of packages, sessions and structs it refuses.
#include "test/runtime/RuntimeSamples.h"
#include "test/runtime/Session.h"

#include <doctest/doctest.h>

#include <cstdlib>
#include <cstring>

using namespace calibatt;
using namespace calibatt::test;

extern "C" calibatt_status_t calibattUseFromC(const char *path, uint32_t *tokens, uint64_t *calls);

namespace {

SampleShape grid() {
  SampleShape shape;
  shape.heads = 4;
  shape.layers = 2;
  shape.steps = 3;
  return shape;
}

// A host session, and a call that fits it.
struct Fixture {
  Random random;
  SampleShape shape = grid();
  SamplePackage sample{random, shape};
  PackageHandle package{sample.path};
  SessionHandle session{package.package, hostOptions()};
  TestCall test{random, CALIBATT_DTYPE_F32, Layout::Contiguous, 2, 4, shape};
};

} // namespace

TEST_CASE("a package says what it was compiled for") {
  Fixture f;
  auto info = CALIBATT_INIT(calibatt_package_info_t);
  REQUIRE(calibatt_package_info(f.package.package, &info) == CALIBATT_STATUS_OK);
  CHECK(std::string(info.model) == "sample");
  CHECK(std::string(info.granularity) == "step");
  CHECK(std::string(info.archs) == "sm_90a");
  CHECK(info.tokens == 420);
  CHECK(info.blocks == 4);
  CHECK(info.layers == 2);
  CHECK(info.heads == 4);
  CHECK(info.steps == 3);
  CHECK(info.head_dim == 64);
  CHECK(info.scale == doctest::Approx(0.125));
  CHECK(info.kernels == 7);
  CHECK(info.file_bytes > 0);
}

TEST_CASE("a package tells every step of its schedule, or that it does not know it") {
  Fixture f;
  auto step = CALIBATT_INIT(calibatt_step_t);
  for (uint32_t i = 0; i < f.shape.steps; ++i) {
    REQUIRE(calibatt_package_step(f.package.package, i, &step) == CALIBATT_STATUS_OK);
    CHECK(step.timestep == 1000.0 - i);
    CHECK(step.sigma == 1 - i / 16.0);
    CHECK(std::string(step.module) == (i ? "transformer_2" : "transformer"));
  }
  CHECK(calibatt_package_step(f.package.package, 3, &step) == CALIBATT_STATUS_MISMATCH);
  CHECK(lastError() == f.sample.path + ": has steps 0 to 2, asked for 3");
  CHECK(calibatt_package_step(nullptr, 0, &step) == CALIBATT_STATUS_INVALID_ARGUMENT);

  f.shape.tellsSteps = false;
  SamplePackage silent(f.random, f.shape);
  PackageHandle package(silent.path);
  CHECK(calibatt_package_step(package.package, 0, &step) == CALIBATT_STATUS_MISMATCH);
  CHECK(lastError() == silent.path + ": does not tell its schedule");
}

TEST_CASE("a package in memory is the package of its file, at any alignment, and damage is named") {
  Fixture f;
  std::vector<uint8_t> file = readBytes(f.sample.path);
  const size_t shift = f.random.integer(0, 63);
  CAPTURE(shift);
  std::vector<uint8_t> memory(shift + file.size());
  std::copy(file.begin(), file.end(), memory.begin() + ptrdiff_t(shift));
  calibatt_package_t *package = nullptr;
  REQUIRE(calibatt_package_open_memory(memory.data() + shift, file.size(), "embedded", &package) ==
          CALIBATT_STATUS_OK);
  {
    SessionHandle session(package, hostOptions());
    calibatt_package_close(package); // the session keeps it
    TestCall here{f.random, CALIBATT_DTYPE_F32, Layout::Contiguous, 2, 4, f.shape};
    REQUIRE(calibatt_attention(session.session, &here.call) == CALIBATT_STATUS_OK);
  }
  auto message = [&](const void *data, size_t size, const char *name) {
    CHECK(calibatt_package_open_memory(data, size, name, &package) == CALIBATT_STATUS_BAD_PACKAGE);
    return lastError();
  };
  CHECK(message(file.data(), file.size() - 1, "embedded").starts_with("embedded: "));
  CHECK(message(file.data(), 0, nullptr).starts_with("a package in memory: has 0 bytes"));
  CHECK(calibatt_package_open_memory(nullptr, 1, "x", &package) ==
        CALIBATT_STATUS_INVALID_ARGUMENT);
  CHECK(lastError() == "calibatt_package_open_memory: data is null");
}

TEST_CASE("a caller built against a shorter struct gets as much as it has room for") {
  Fixture f;
  calibatt_package_info_t info;
  std::memset(&info, 0xAB, sizeof info);
  info.struct_size = offsetof(calibatt_package_info_t, layers);
  REQUIRE(calibatt_package_info(f.package.package, &info) == CALIBATT_STATUS_OK);
  CHECK(info.tokens == 420);
  CHECK(info.layers == 0xABABABABu);
  info.struct_size = sizeof info + 8;
  CHECK(calibatt_package_info(f.package.package, &info) == CALIBATT_STATUS_INVALID_ARGUMENT);
  CHECK(lastError().find("struct_size is") != std::string::npos);
  info.struct_size = 0;
  CHECK(calibatt_package_info(f.package.package, &info) == CALIBATT_STATUS_INVALID_ARGUMENT);
}

TEST_CASE("the mask of a site is the schedule that went in, bit by bit") {
  for (Form form : {Form::Full, Form::Runs, Form::Table})
    for (bool perHead : {false, true}) {
      Random random;
      CAPTURE(random.seed);
      SampleShape shape = grid();
      shape.tokens = 1500; // 12 blocks: two bytes a row
      shape.form = form;
      shape.perHead = perHead;
      const SamplePackage sample(random, shape);
      const PackageHandle package(sample.path);
      for (uint32_t layer = 0; layer < shape.layers; ++layer)
        for (uint32_t head = 0; head < shape.heads; ++head)
          for (uint32_t step = 0; step < shape.steps; ++step) {
            std::vector<uint8_t> bits(24, 0xFF), wanted(24);
            REQUIRE(calibatt_site_mask(package.package, layer, head, step, bits.data(),
                                       bits.size()) == CALIBATT_STATUS_OK);
            for (uint32_t row = 0; row < 12; ++row)
              for (uint16_t block : sample.schedule(layer, step).row(head, row))
                wanted[row * 2 + block / 8] |= uint8_t(1 << (block % 8));
            REQUIRE(bits == wanted);
          }
      uint8_t byte;
      CHECK(calibatt_site_mask(package.package, 0, 0, 0, &byte, 1) ==
            CALIBATT_STATUS_INVALID_ARGUMENT);
      CHECK(lastError().find("1 bytes given, wanted 24 (12 rows of 2)") != std::string::npos);
      CHECK(calibatt_site_mask(package.package, 0, 9, 0, &byte, 1) == CALIBATT_STATUS_MISMATCH);
      CHECK(lastError().find("site (layer 0, head 9, step 0) is outside") != std::string::npos);
    }
}

TEST_CASE("a call with defaults only is contiguous, of the package's scale and head_dim") {
  Fixture f;
  calibatt_call_t &call = f.test.call;
  call.head_dim = call.heads = 0;
  for (int64_t *strides : {call.q_strides, call.k_strides, call.v_strides, call.o_strides})
    std::fill_n(strides, 3, 0);
  char text[256];
  CHECK(calibatt_match(nullptr, f.session.session, &call, text, sizeof text) == CALIBATT_STATUS_OK);
  CHECK(std::string(text) ==
        "layer 0, step 0: fits; 1 launch, first kernel calibatt_sample_runs (form runs)");
  REQUIRE_MESSAGE(calibatt_attention(f.session.session, &call) == CALIBATT_STATUS_OK, lastError());
  CHECK(compareWithReference(f.test, f.sample.schedule(0, 0), 0, f.sample.scale).relativeRms <
        1e-5);
  CHECK(f.session.stats().launches == 1);
}

TEST_CASE("sessions outlive the handle of their package") {
  Fixture f;
  calibatt_package_close(f.package.package);
  f.package.package = nullptr;
  CHECK(calibatt_attention(f.session.session, &f.test.call) == CALIBATT_STATUS_OK);
}

TEST_CASE("head ranges, devices and ways to fall back that are not there are refused") {
  Fixture f;
  auto options = hostOptions();
  options.head_begin = 4;
  const SessionHandle outside(f.package.package, options);
  CHECK(outside.status == CALIBATT_STATUS_INVALID_ARGUMENT);
  CHECK(lastError().find("the package has 4 heads") != std::string::npos);
  options.head_begin = 1;
  options.head_count = UINT32_MAX;
  const SessionHandle wrapping(f.package.package, options);
  CHECK(wrapping.status == CALIBATT_STATUS_INVALID_ARGUMENT);
  options = hostOptions();
  options.allow_dense = 2;
  const SessionHandle unheard(f.package.package, options);
  CHECK(unheard.status == CALIBATT_STATUS_INVALID_ARGUMENT);
  CHECK(lastError() == "allow_dense is 2, wanted 0 or 1");
  for (const char *name : {"gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:1x", ""}) {
    options = hostOptions();
    options.device = name;
    const SessionHandle unknown(f.package.package, options);
    CHECK(unknown.status == CALIBATT_STATUS_INVALID_ARGUMENT);
    CHECK(lastError() ==
          std::string("device '") + name + "' is unknown, wanted host, cuda or cuda:N");
  }
}

TEST_CASE("prewarming a step outside the package is refused") {
  Fixture f;
  const uint32_t steps[] = {0, 3};
  CHECK(calibatt_session_prewarm(f.session.session, steps, 1, 0) == CALIBATT_STATUS_OK);
  CHECK(calibatt_session_prewarm(f.session.session, nullptr, 0, 2) == CALIBATT_STATUS_OK);
  CHECK(calibatt_session_prewarm(f.session.session, steps, 2, 0) == CALIBATT_STATUS_MISMATCH);
  CHECK(lastError() == "prewarm: step 3: the package has steps 0 to 2");
}

TEST_CASE("without libcuda.so.1 a CUDA session says so and the host still works") {
  setenv("CALIBATT_LIBCUDA", "/nonexistent/libcuda.so.1", 1);
  Fixture f;
  auto options = hostOptions();
  options.device = "cuda:0";
  const SessionHandle session(f.package.package, options);
  CHECK(session.status == CALIBATT_STATUS_NO_DEVICE);
  CHECK(session.session == nullptr);
  CHECK_MESSAGE(lastError().find("/nonexistent/libcuda.so.1 not found: ") == 0, lastError());
  CHECK(calibatt_attention(f.session.session, &f.test.call) == CALIBATT_STATUS_OK);
}

TEST_CASE("a missing, foreign or damaged package is refused with its path") {
  calibatt_package_t *package = nullptr;
  CHECK(calibatt_package_open("/nonexistent/a.calibatt", &package) == CALIBATT_STATUS_BAD_PACKAGE);
  CHECK(lastError().find("/nonexistent/a.calibatt") != std::string::npos);
  CHECK(package == nullptr);

  Fixture f;
  std::vector<uint8_t> bytes = readBytes(f.sample.path);
  const ScratchFolder folder;
  const std::string path = folder.file("damaged.calibatt");
  // Wherever a byte flips, opening or computing fails, or nothing depended on it.
  for (int i = 0; i < 60; ++i) {
    std::vector<uint8_t> damaged = bytes;
    damaged[f.random.integer(0, bytes.size() - 1)] ^= uint8_t(1u << f.random.integer(0, 7));
    writeBytes(path, damaged);
    const PackageHandle opened(path);
    if (!opened.package) {
      CHECK(lastError().find(path) != std::string::npos);
      continue;
    }
    const SessionHandle session(opened.package, hostOptions());
    TestCall test(f.random, CALIBATT_DTYPE_F32, Layout::Contiguous, 1, 4, f.shape);
    const auto status = calibatt_attention(session.session, &test.call);
    if (status == CALIBATT_STATUS_OK)
      CHECK(compareWithReference(test, f.sample.schedule(0, 0), 0, f.sample.scale).relativeRms <
            1e-5);
    else
      CHECK(status == CALIBATT_STATUS_BAD_PACKAGE);
  }
}

TEST_CASE("null handles are refused, closing null is fine") {
  calibatt_package_close(nullptr);
  calibatt_session_destroy(nullptr);
  CHECK(calibatt_package_open(nullptr, nullptr) == CALIBATT_STATUS_INVALID_ARGUMENT);
  CHECK(calibatt_package_info(nullptr, nullptr) == CALIBATT_STATUS_INVALID_ARGUMENT);
  CHECK(calibatt_session_create(nullptr, nullptr, nullptr) == CALIBATT_STATUS_INVALID_ARGUMENT);
  CHECK(calibatt_session_prewarm(nullptr, nullptr, 0, 0) == CALIBATT_STATUS_INVALID_ARGUMENT);
  CHECK(calibatt_attention(nullptr, nullptr) == CALIBATT_STATUS_INVALID_ARGUMENT);
  CHECK(calibatt_session_stats(nullptr, nullptr) == CALIBATT_STATUS_INVALID_ARGUMENT);
  CHECK(lastError() == "calibatt_session_stats: session is null");
  CHECK(std::string(calibatt_status_name(CALIBATT_STATUS_NOT_PREWARMED)) ==
        "CALIBATT_STATUS_NOT_PREWARMED");
}

TEST_CASE("the header's version is the library's, and numbers later versions higher") {
  CHECK(std::string(calibatt_version()) == std::to_string(CALIBATT_VERSION_MAJOR) + "." +
                                               std::to_string(CALIBATT_VERSION_MINOR) + "." +
                                               std::to_string(CALIBATT_VERSION_PATCH));
#if CALIBATT_VERSION < 1000 || CALIBATT_VERSION >= 1000000000 // for the preprocessor too
#error "no version is of that number"
#endif
  CHECK(CALIBATT_VERSION / 1000000 == CALIBATT_VERSION_MAJOR);
  CHECK(CALIBATT_VERSION / 1000 % 1000 == CALIBATT_VERSION_MINOR);
  CHECK(CALIBATT_VERSION % 1000 == CALIBATT_VERSION_PATCH);
}

TEST_CASE("the header is C: a C translation unit opens a package through it") {
  Fixture f;
  uint32_t tokens = 0;
  uint64_t calls = 1;
  CHECK(calibattUseFromC(f.sample.path.c_str(), &tokens, &calls) == CALIBATT_STATUS_OK);
  CHECK(tokens == 420);
  CHECK(calls == 0);
  CHECK(calibattUseFromC("/nonexistent", &tokens, &calls) == CALIBATT_STATUS_BAD_PACKAGE);
}

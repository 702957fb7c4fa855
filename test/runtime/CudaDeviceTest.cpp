// The CUDA device over the recording driver of FakeCuda.h: what is loaded, uploaded and launched,
// under capture, within a budget, and when the driver fails. No arithmetic: that takes a GPU.
#include "test/runtime/FakeCuda.h"
#include "test/runtime/RuntimeSamples.h"
#include "test/runtime/Session.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <set>

using namespace calibatt;
using namespace calibatt::test;

namespace {

FakeCuda &fakeCuda() {
  static FakeCuda &state = loadFakeCuda(CALIBATT_FAKE_CUDA);
  return state;
}

calibatt_session_options_t cudaOptions() {
  auto options = CALIBATT_INIT(calibatt_session_options_t);
  options.device = "cuda:0";
  return options;
}

void *const kStream = reinterpret_cast<void *>(0x5000);

// A clean driver, a package, and a bf16 call that fits it.
struct Fixture {
  FakeCuda &cuda = fakeCuda();
  Random random;
  SamplePackage sample;
  PackageHandle package{sample.path};
  TestCall test;

  explicit Fixture(const SampleShape &shape, uint32_t batch = 1, uint32_t heads = 0)
      : sample(random, shape), test(random, CALIBATT_DTYPE_BF16, Layout::Padded, batch,
                                    heads ? heads : shape.heads, shape) {
    cuda = FakeCuda{};
    test.call.stream = kStream;
    align();
  }
  // TestTensor's storage is aligned by the allocator to 16 bytes; say so if that ever changes.
  void align() {
    for (TestTensor *tensor : {&test.q, &test.k, &test.v, &test.o})
      REQUIRE(reinterpret_cast<uintptr_t>(tensor->data()) % 16 == 0);
  }
};

bool lastErrorHas(const std::string &words) {
  const bool found = lastError().find(words) != std::string::npos;
  if (!found)
    MESSAGE(lastError());
  return found;
}

// The calling thread's, as the driver has it.
int threadCaptureMode() {
  void *library = dlopen(CALIBATT_FAKE_CUDA, RTLD_NOW | RTLD_NOLOAD);
  return reinterpret_cast<int (*)(void *)>(dlsym(library, "fakeCudaCaptureMode"))(nullptr);
}

// Whether calibatt_match says of the call what the call said last.
bool matches(const calibatt_session_t *session, const calibatt_call_t &call,
             calibatt_status_t status) {
  const std::string said = lastError();
  char text[512] = "";
  return calibatt_match(nullptr, session, &call, text, sizeof text) == status && said == text &&
         lastError() == said;
}

} // namespace

TEST_CASE("a launch carries the data image, every tile once, and the package's shared memory") {
  SampleShape shape;
  shape.heads = 3;
  Fixture f(shape, 2);
  const SessionHandle session(f.package.package, cudaOptions());
  REQUIRE_MESSAGE(session.session, lastError());
  f.test.call.step = 1;
  REQUIRE_MESSAGE(calibatt_attention(session.session, &f.test.call) == CALIBATT_STATUS_OK,
                  lastError());
  REQUIRE(f.cuda.launches.size() == 1);
  const FakeLaunch &launch = f.cuda.launches[0];
  const uint32_t tiles = 2 * 3 * 4;
  CHECK(launch.kernel == "calibatt_sample_runs");
  CHECK(launch.grid == std::array<unsigned, 3>{tiles, 1, 1});
  CHECK(launch.block == std::array<unsigned, 3>{384, 1, 1});
  CHECK(launch.sharedBytes == 101376);
  CHECK(f.cuda.dynamicShared == 101376);
  CHECK(launch.stream == kStream);
  CHECK(launch.params.work_count == tiles);
  CHECK(launch.params.head_base == 0);
  CHECK(launch.params.lse == f.test.call.lse);
  CHECK(launch.params.lse_head_stride == 420);
  CHECK(launch.params.lse_batch_stride == 3 * 420);

  const auto image = buildScheduleImage(f.sample.schedule(0, 1), Form::Runs);
  REQUIRE(launch.image.size() >= image.size());
  CHECK(std::equal(image.begin(), image.end(), launch.image.begin()));

  std::set<std::array<uint32_t, 3>> seen;
  for (size_t i = 0; i < launch.work.size(); ++i) {
    const uint32_t word = launch.work[i];
    seen.insert({workBatch(word), workHead(word), workRow(word)});
    CHECK(workBatch(word) < 2);
    CHECK(workHead(word) < 3);
    CHECK(workRow(word) < 4);
    // Batch entries of one tile stand side by side, in the order of the package.
    CHECK(workBatch(word) == i % 2);
    CHECK(workRow(word) == workRow(launch.work[i & ~size_t(1)]));
  }
  CHECK(seen.size() == tiles);
  CHECK(f.cuda.contextDepth == 0);
}

TEST_CASE("a persistent kernel has a CTA a processor, and lists of about equal length") {
  SampleShape shape;
  shape.heads = 3;
  shape.tokens = 1300;
  shape.persistent = true;
  Fixture f(shape, 2);
  f.cuda.processors = 5;
  const SessionHandle session(f.package.package, cudaOptions());
  REQUIRE_MESSAGE(session.session, lastError());
  REQUIRE_MESSAGE(calibatt_attention(session.session, &f.test.call) == CALIBATT_STATUS_OK,
                  lastError());
  REQUIRE(f.cuda.launches.size() == 1);
  const FakeLaunch &launch = f.cuda.launches[0];
  const uint32_t tiles = 2 * 3 * 11;
  CHECK(launch.grid == std::array<unsigned, 3>{5, 1, 1});
  CHECK(launch.params.work_count == tiles);
  REQUIRE(launch.begins.size() == 6);
  CHECK(launch.begins.front() == 0);
  CHECK(launch.begins.back() == tiles);
  CHECK(std::set<uint32_t>(launch.work.begin(), launch.work.end()).size() == tiles);
  const Schedule &schedule = f.sample.schedule(0, 0);
  std::vector<size_t> visits;
  for (size_t cta = 0; cta < 5; ++cta) {
    visits.push_back(0);
    for (uint32_t i = launch.begins[cta]; i < launch.begins[cta + 1]; ++i)
      visits.back() += schedule.row(workHead(launch.work[i]), workRow(launch.work[i])).size();
  }
  // No list ends later than the others by more than its own last tile.
  const auto [least, most] = std::minmax_element(visits.begin(), visits.end());
  CHECK(*most - *least <= 11 + 3);
}

TEST_CASE("tensor maps are those of LaunchParams.h, and encoded once") {
  SampleShape shape;
  shape.headDim = 128;
  Fixture f(shape, 2);
  const SessionHandle session(f.package.package, cudaOptions());
  for (int repeat = 0; repeat < 3; ++repeat)
    REQUIRE_MESSAGE(calibatt_attention(session.session, &f.test.call) == CALIBATT_STATUS_OK,
                    lastError());
  CHECK(f.cuda.launches.size() == 3);
  REQUIRE(f.cuda.maps.size() == 4);
  CHECK(session.stats().tensor_maps == 4);
  const LaunchParams &params = f.cuda.launches[2].params;
  const TensorMap *maps[] = {&params.q, &params.k, &params.v, &params.o};
  const void *addresses[] = {f.test.call.q, f.test.call.k, f.test.call.v, f.test.call.o};
  const auto &s = f.test.q.strides();
  for (size_t i = 0; i < 4; ++i) {
    const FakeTensorMap &map = f.cuda.maps.at(maps[i]->words[0]);
    CHECK(map.address == addresses[i]);
    CHECK(map.dataType == 9);
    CHECK(map.interleave == 0);
    CHECK(map.swizzle == 3);
    CHECK(map.l2Promotion == 3);
    CHECK(map.fill == 0);
    CHECK(map.dims == std::array<uint64_t, 5>{64, 420, 2, 2, 2});
    CHECK(map.strides ==
          std::array<uint64_t, 4>{uint64_t(s[2]) * 2, 128, uint64_t(s[1]) * 2, uint64_t(s[0]) * 2});
    CHECK(map.box == (i == 3 ? std::array<uint32_t, 5>{64, 64, 1, 1, 1}
                             : std::array<uint32_t, 5>{64, 128, 2, 1, 1}));
    CHECK(map.elementStrides == std::array<uint32_t, 5>{1, 1, 1, 1, 1});
  }
}

TEST_CASE("strides of extents of one reach the driver as valid ones") {
  SampleShape shape;
  shape.heads = 1;
  Fixture f(shape);
  f.test.call.q_strides[0] = 3;
  f.test.call.q_strides[1] = -1;
  const SessionHandle session(f.package.package, cudaOptions());
  REQUIRE_MESSAGE(calibatt_attention(session.session, &f.test.call) == CALIBATT_STATUS_OK,
                  lastError());
  for (const FakeTensorMap &map : f.cuda.maps)
    for (uint64_t stride : map.strides)
      CHECK((stride > 0 && stride % 16 == 0));
}

TEST_CASE("per-head kernels are one launch a head, with their own head_base") {
  SampleShape shape;
  shape.heads = 4;
  shape.perHead = true;
  Fixture f(shape, 1, 2);
  auto options = cudaOptions();
  options.head_begin = 1;
  options.head_count = 2;
  const SessionHandle session(f.package.package, options);
  REQUIRE_MESSAGE(calibatt_attention(session.session, &f.test.call) == CALIBATT_STATUS_OK,
                  lastError());
  REQUIRE(f.cuda.launches.size() == 2);
  for (uint32_t head = 0; head < 2; ++head) {
    const FakeLaunch &launch = f.cuda.launches[head];
    CHECK(launch.params.head_base == head);
    const auto image =
        buildScheduleImage(sliceHeads(f.sample.schedule(0, 0), head + 1, 1), Form::Runs);
    CHECK(std::equal(image.begin(), image.end(), launch.image.begin()));
    REQUIRE(launch.work.size() == 4);
    for (uint32_t word : launch.work)
      CHECK(workHead(word) == head);
  }
}

TEST_CASE("a head range of a whole-step kernel launches its tiles with a shifted head_base") {
  SampleShape shape;
  shape.heads = 5;
  Fixture f(shape, 1, 2);
  auto options = cudaOptions();
  options.head_begin = 2;
  options.head_count = 2;
  const SessionHandle session(f.package.package, options);
  REQUIRE_MESSAGE(calibatt_attention(session.session, &f.test.call) == CALIBATT_STATUS_OK,
                  lastError());
  const FakeLaunch &launch = f.cuda.launches.at(0);
  CHECK(launch.work.size() == 2 * 4);
  std::set<uint32_t> scheduleHeads;
  for (uint32_t word : launch.work) {
    CHECK(workHead(word) < 2); // a head of the tensors
    scheduleHeads.insert(workHead(word) - launch.params.head_base);
  }
  CHECK(scheduleHeads == std::set<uint32_t>{2, 3});
}

TEST_CASE("unrolled kernels are launched without a schedule") {
  SampleShape shape;
  shape.form = Form::Full;
  Fixture f(shape);
  const SessionHandle session(f.package.package, cudaOptions());
  REQUIRE_MESSAGE(calibatt_attention(session.session, &f.test.call) == CALIBATT_STATUS_OK,
                  lastError());
  CHECK(f.cuda.launches.at(0).params.schedule == nullptr);
  CHECK(session.stats().data_images == 0);
}

TEST_CASE("prewarming loads every code image once and later calls load nothing") {
  SampleShape shape;
  shape.layers = 2;
  shape.steps = 3;
  Fixture f(shape);
  const SessionHandle session(f.package.package, cudaOptions());
  const uint32_t steps[] = {0, 2};
  REQUIRE_MESSAGE(calibatt_session_prewarm(session.session, steps, 2, 0) == CALIBATT_STATUS_OK,
                  lastError());
  CHECK(f.cuda.libraries.size() == 1);
  CHECK(session.stats().code_images == 1);
  CHECK(session.stats().data_images == 4);
  CHECK(session.stats().device_bytes > 0);
  const int allocations = f.cuda.calls["cuMemAlloc_v2"];
  f.test.call.layer = 1;
  f.test.call.step = 2;
  REQUIRE(calibatt_attention(session.session, &f.test.call) == CALIBATT_STATUS_OK);
  CHECK(f.cuda.calls["cuMemAlloc_v2"] == allocations);
  f.test.call.step = 1; // not prewarmed: loaded now
  REQUIRE(calibatt_attention(session.session, &f.test.call) == CALIBATT_STATUS_OK);
  CHECK(f.cuda.calls["cuMemAlloc_v2"] > allocations);
}

TEST_CASE("a prewarmed session that is not strict launches the dense kernel under capture too") {
  SampleShape shape;
  Fixture f(shape);
  auto options = cudaOptions();
  options.allow_dense = 1;
  const SessionHandle session(f.package.package, options);
  const uint32_t steps[] = {0, 77};
  REQUIRE_MESSAGE(calibatt_session_prewarm(session.session, steps, 2, 1) == CALIBATT_STATUS_OK,
                  lastError());
  CHECK(session.stats().data_images == 2); // of step 0, and the dense one
  f.cuda.capturing = 1;
  f.test.call.step = 77;
  CHECK_MESSAGE(calibatt_attention(session.session, &f.test.call) == CALIBATT_STATUS_OK,
                lastError());
  f.cuda.capturing = 0;
  // The schedule of one head, once for each head of the tensors.
  REQUIRE(f.cuda.launches.size() == 2);
  CHECK(f.cuda.launches[0].image == f.cuda.launches[1].image);
  CHECK(f.cuda.launches[1].params.head_base == 1);
  CHECK(session.stats().dense_fallbacks == 1);
}

TEST_CASE(
    "under capture a prewarmed call launches and any other is refused without touching memory") {
  SampleShape shape;
  Fixture f(shape);
  const SessionHandle session(f.package.package, cudaOptions());
  const uint32_t step = 0;
  REQUIRE(calibatt_session_prewarm(session.session, &step, 1, 1) == CALIBATT_STATUS_OK);
  const int allocations = f.cuda.calls["cuMemAlloc_v2"],
            copies = f.cuda.calls["cuMemcpyHtoDAsync_v2"];
  f.cuda.capturing = 1;
  CHECK(calibatt_attention(session.session, &f.test.call) == CALIBATT_STATUS_OK);
  CHECK(f.cuda.launches.size() == 1);
  f.test.call.step = 1;
  CHECK(calibatt_attention(session.session, &f.test.call) == CALIBATT_STATUS_NOT_PREWARMED);
  CHECK(lastErrorHas("layer 0, step 1: the stream is being captured"));
  CHECK(matches(session.session, f.test.call, CALIBATT_STATUS_NOT_PREWARMED));
  f.test.call.step = 0;
  char text[256];
  CHECK(calibatt_match(nullptr, session.session, &f.test.call, text, sizeof text) ==
        CALIBATT_STATUS_OK);
  f.test.call.batch = 0; // asked of the fit before the stream
  CHECK(calibatt_attention(session.session, &f.test.call) == CALIBATT_STATUS_MISMATCH);
  CHECK(matches(session.session, f.test.call, CALIBATT_STATUS_MISMATCH));
  f.test.call.batch = 1;
  f.test.call.stream = nullptr; // the fake driver refuses to say: another stream is captured
  CHECK(calibatt_attention(session.session, &f.test.call) == CALIBATT_STATUS_DRIVER_ERROR);
  CHECK(matches(session.session, f.test.call, CALIBATT_STATUS_DRIVER_ERROR));
  CHECK(f.cuda.launches.size() == 1);
  CHECK(f.cuda.calls["cuMemAlloc_v2"] == allocations);
  CHECK(f.cuda.calls["cuMemcpyHtoDAsync_v2"] == copies);
  f.cuda.capturing = 0;
  CHECK(f.cuda.captureLostBy.empty());
}

TEST_CASE("loading, releasing and destroying beside somebody's capture leave it as it is") {
  SampleShape shape;
  shape.steps = 4;
  shape.tokens = 1500;
  Fixture f(shape);
  f.cuda.capturing = 1;
  {
    auto options = cudaOptions();
    const uint32_t first = 0, second = 1;
    {
      const SessionHandle whole(f.package.package, options);
      REQUIRE_MESSAGE(whole.session, lastError());
      REQUIRE_MESSAGE(calibatt_session_prewarm(whole.session, &first, 1, 1) == CALIBATT_STATUS_OK,
                      lastError());
      options.byte_budget = whole.stats().device_bytes + 512;
    }
    CHECK(f.cuda.captureLostBy.empty());
    CHECK(f.cuda.allocations.empty());
    const SessionHandle session(f.package.package, options);
    for (const uint32_t *step : {&first, &second})
      REQUIRE_MESSAGE(calibatt_session_prewarm(session.session, step, 1, 1) == CALIBATT_STATUS_OK,
                      lastError());
    CHECK(session.stats().evictions > 0); // of the first step
    f.test.call.step = second;
    CHECK_MESSAGE(calibatt_attention(session.session, &f.test.call) == CALIBATT_STATUS_OK,
                  lastError());
    f.test.call.step = first;
    CHECK(calibatt_attention(session.session, &f.test.call) == CALIBATT_STATUS_NOT_PREWARMED);
    // What the graph holds stays: there is no room for another step.
    CHECK(calibatt_session_prewarm(session.session, &first, 1, 1) == CALIBATT_STATUS_OUT_OF_MEMORY);
  }
  CHECK(f.cuda.captureLostBy.empty());
  CHECK(f.cuda.allocations.empty());
  CHECK(f.cuda.streams == 0);
  CHECK(f.cuda.hostAllocations == 0);
  CHECK(f.cuda.loadedLibraries == 0);
  CHECK(f.cuda.retained == 0);
  CHECK(threadCaptureMode() == 0);
  f.cuda.capturing = 0;
}

TEST_CASE(
    "statistics have the tiles that kernels ran again, over all calls, without asking the driver") {
  SampleShape shape;
  Fixture f(shape);
  const SessionHandle session(f.package.package, cudaOptions());
  CHECK(session.stats().reruns == 0);
  f.cuda.rerunsPerLaunch = int(f.random.integer(1, 1000));
  for (uint64_t call = 1; call <= 3; ++call) {
    REQUIRE(calibatt_attention(session.session, &f.test.call) == CALIBATT_STATUS_OK);
    const auto calls = f.cuda.calls;
    f.cuda.capturing = 1;
    CHECK(session.stats().reruns == call * uint64_t(f.cuda.rerunsPerLaunch));
    f.cuda.capturing = 0;
    CHECK(f.cuda.calls == calls);
  }
}

TEST_CASE("a byte budget releases the steps used longest ago, but nothing a graph holds") {
  SampleShape shape;
  shape.steps = 4;
  shape.tokens = 1500;
  Fixture f(shape);
  // Two steps fit, by measurement.
  uint64_t oneStep = 0;
  {
    const SessionHandle measuring(f.package.package, cudaOptions());
    const uint32_t step = 0;
    REQUIRE(calibatt_session_prewarm(measuring.session, &step, 1, 1) == CALIBATT_STATUS_OK);
    oneStep = measuring.stats().device_bytes;
  }
  CHECK(f.cuda.allocations.empty());
  auto options = cudaOptions();
  options.byte_budget = 2 * oneStep + oneStep / 2;
  const SessionHandle session(f.package.package, options);
  f.cuda.capturing = 0;
  REQUIRE(calibatt_attention(session.session, &f.test.call) == CALIBATT_STATUS_OK);
  f.cuda.capturing = 1;
  REQUIRE(calibatt_attention(session.session, &f.test.call) == CALIBATT_STATUS_OK); // pins step 0
  f.cuda.capturing = 0;
  for (uint32_t step = 1; step < 4; ++step) {
    f.test.call.step = step;
    REQUIRE_MESSAGE(calibatt_attention(session.session, &f.test.call) == CALIBATT_STATUS_OK,
                    lastError());
    CHECK(session.stats().device_bytes <= options.byte_budget);
  }
  f.cuda.capturing = 1;
  f.test.call.step = 0;
  CHECK(calibatt_attention(session.session, &f.test.call) == CALIBATT_STATUS_OK);
  f.test.call.step = 1;
  CHECK(calibatt_attention(session.session, &f.test.call) == CALIBATT_STATUS_NOT_PREWARMED);
  f.cuda.capturing = 0;

  options.byte_budget = oneStep / 4;
  const SessionHandle small(f.package.package, options);
  CHECK(calibatt_attention(small.session, &f.test.call) == CALIBATT_STATUS_OUT_OF_MEMORY);
  CHECK(lastErrorHas("byte_budget is"));
}

TEST_CASE("destroying a session gives back memory, code and context") {
  SampleShape shape;
  Fixture f(shape);
  {
    const SessionHandle session(f.package.package, cudaOptions());
    REQUIRE(calibatt_session_prewarm(session.session, nullptr, 0, 2) == CALIBATT_STATUS_OK);
    CHECK(f.cuda.retained == 1);
    CHECK_FALSE(f.cuda.allocations.empty());
  }
  CHECK(f.cuda.allocations.empty());
  CHECK(f.cuda.calls["cuLibraryUnload"] == int(f.cuda.libraries.size()));
  CHECK(f.cuda.retained == 0);
  CHECK(f.cuda.contextDepth == 0);
}

TEST_CASE("drivers, GPUs and architectures that do not do are refused by name") {
  SampleShape shape;
  Fixture f(shape);
  const auto refused = [&](calibatt_status_t status, const std::string &words) {
    const SessionHandle session(f.package.package, cudaOptions());
    CHECK(session.status == status);
    CHECK(lastErrorHas(words));
  };
  f.cuda.version = 12080;
  refused(CALIBATT_STATUS_UNSUPPORTED_DEVICE,
          "needs a driver for CUDA 13.0, this one is for CUDA 12.8");
  f.cuda.version = 13000;
  f.cuda.devices = 0;
  refused(CALIBATT_STATUS_NO_DEVICE, "device 'cuda:0': there are 0 GPUs");
  f.cuda.devices = 1;
  f.cuda.major = 8;
  refused(CALIBATT_STATUS_UNSUPPORTED_DEVICE,
          "its code is for sm_90a, device 'cuda:0' has compute capability 8.0");
  f.cuda.major = 9;
  for (const char *function : {"cuDriverGetVersion", "cuDeviceGet", "cuDevicePrimaryCtxRetain"}) {
    f.cuda.failing = function;
    f.cuda.failure = 999;
    refused(CALIBATT_STATUS_DRIVER_ERROR, "CUDA_ERROR_OF_THE_TEST (999): the test asked for it");
  }
}

TEST_CASE("what the GPU's tensor maps cannot address is refused by name") {
  SampleShape shape;
  Fixture f(shape);
  const SessionHandle session(f.package.package, cudaOptions());
  const calibatt_call_t good = f.test.call;
  const auto refused = [&](const std::string &words) {
    CHECK(calibatt_attention(session.session, &f.test.call) == CALIBATT_STATUS_MISMATCH);
    CHECK(lastErrorHas(words));
    CHECK(matches(session.session, f.test.call, CALIBATT_STATUS_MISMATCH));
    f.test.call = good;
  };
  f.test.call.k_strides[2] = 68;
  refused("k has token stride 68; on a GPU it has to be a positive multiple of 8 elements");
  f.test.call.v_strides[1] = 0;
  refused("v has head stride 0; on a GPU");
  f.test.call.q_strides[1] = int64_t(1) << 39;
  refused("q has head stride 549755813888; on a GPU");
  f.test.call.o = static_cast<char *>(good.o) + 2;
  refused("o is at ");
  f.test.call.q = static_cast<const char *>(good.q) + 8;
  refused("on a GPU it has to be 16-byte aligned");
  f.test.call.dtype = CALIBATT_DTYPE_F32;
  refused("layer 0, step 0: the call has dtype f32; on a GPU tensors are bf16");
  CHECK(f.cuda.launches.empty());
}

TEST_CASE("a driver function that fails is a status with its name, and the session goes on") {
  SampleShape shape;
  for (const char *function :
       {"cuLibraryLoadData", "cuLibraryGetKernel", "cuKernelGetFunction", "cuKernelSetAttribute",
        "cuMemAlloc_v2", "cuStreamCreate", "cuMemcpyHtoDAsync_v2", "cuStreamSynchronize",
        "cuLaunchKernel", "cuTensorMapEncodeTiled", "cuStreamIsCapturing", "cuCtxPushCurrent_v2"}) {
    CAPTURE(function);
    Fixture f(shape);
    {
      const SessionHandle session(f.package.package, cudaOptions());
      f.cuda.failing = function;
      f.cuda.failure = 700;
      CHECK(calibatt_attention(session.session, &f.test.call) == CALIBATT_STATUS_DRIVER_ERROR);
      CHECK(lastErrorHas("CUDA_ERROR_OF_THE_TEST (700)"));
      CHECK(lastErrorHas(std::string(function).substr(0, std::strcspn(function, "_"))));
      f.cuda.failure = 2;
      CHECK(calibatt_attention(session.session, &f.test.call) == CALIBATT_STATUS_OUT_OF_MEMORY);
      CHECK(f.cuda.launches.empty());
      f.cuda.failing.clear();
      CHECK(calibatt_attention(session.session, &f.test.call) == CALIBATT_STATUS_OK);
      CHECK(f.cuda.launches.size() == 1);
      CHECK(session.stats().calls == 1);
    }
    CHECK(f.cuda.allocations.empty());
    CHECK(f.cuda.contextDepth == 0);
  }
}

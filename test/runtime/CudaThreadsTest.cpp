// CUDA sessions used from several threads, over the recording driver of FakeCuda.h.
#include "test/runtime/FakeCuda.h"
#include "test/runtime/RuntimeSamples.h"
#include "test/runtime/Session.h"
#include "test/runtime/Threads.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>

using namespace calibatt;
using namespace calibatt::test;

namespace {

constexpr uint32_t kSteps = 4;

SampleShape fourSteps() {
  SampleShape shape;
  shape.steps = kSteps;
  shape.tokens = 1500; // schedules larger than the driver's unit of allocation
  return shape;
}

calibatt_session_options_t cudaOptions(uint64_t budget) {
  auto options = CALIBATT_INIT(calibatt_session_options_t);
  options.device = "cuda:0";
  options.byte_budget = budget;
  return options;
}

// A driver as it was made, a package, tensors for all calls.
struct Fixture {
  FakeCuda &cuda = loadFakeCuda(CALIBATT_FAKE_CUDA);
  Random random;
  SampleShape shape = fourSteps();
  SamplePackage sample{random, shape};
  PackageHandle package{sample.path};
  TestCall test{random, CALIBATT_DTYPE_BF16, Layout::Contiguous, 1, shape.heads, shape};

  Fixture() { cuda = FakeCuda{}; }

  // Calls of every step in an order of the thread's own. The stream says what was asked for, so
  // that the launches can be told apart.
  uint64_t callEveryStep(const SessionHandle &session, uint32_t thread, int rounds) {
    uint64_t failures = 0;
    for (uint32_t i = 0; i < kSteps * uint32_t(rounds); ++i) {
      calibatt_call_t call = test.call;
      call.step = (i * (2 * thread + 1) + thread) % kSteps;
      call.stream = reinterpret_cast<void *>(uintptr_t(call.step) + 1);
      failures += calibatt_attention(session.session, &call) != CALIBATT_STATUS_OK;
    }
    return failures;
  }

  // Every launch had the schedule of its step on the device.
  void checkLaunches(size_t count) {
    REQUIRE(cuda.launches.size() == count);
    std::vector<std::vector<uint8_t>> images;
    for (uint32_t step = 0; step < kSteps; ++step)
      images.push_back(buildScheduleImage(sample.schedule(0, step), Form::Runs));
    uint64_t wrong = 0;
    for (const FakeLaunch &launch : cuda.launches) {
      const auto &image = images[reinterpret_cast<uintptr_t>(launch.stream) - 1];
      wrong += launch.image.size() < image.size() ||
               !std::equal(image.begin(), image.end(), launch.image.begin()) ||
               launch.work.size() != shape.heads * 12;
    }
    CHECK(wrong == 0);
    CHECK(cuda.contextDepth == 0);
  }
};

} // namespace

TEST_CASE("threads share a CUDA session whose budget makes them reload each other's steps") {
  Fixture f;
  uint64_t oneStep = 0;
  {
    const SessionHandle measuring(f.package.package, cudaOptions(0));
    const uint32_t step = 0;
    REQUIRE_MESSAGE(calibatt_session_prewarm(measuring.session, &step, 1, 1) == CALIBATT_STATUS_OK,
                    lastError());
    oneStep = measuring.stats().device_bytes;
  }
  f.cuda = FakeCuda{};
  const uint64_t budget = 2 * oneStep + oneStep / 2;
  constexpr uint32_t kCallers = 3;
  constexpr int kRounds = 25;
  std::atomic<uint32_t> callers{kCallers};
  std::atomic<uint64_t> failures{0};
  {
    const SessionHandle session(f.package.package, cudaOptions(budget));
    REQUIRE(session.session);
    std::vector<std::function<void()>> bodies;
    for (uint32_t thread = 0; thread < kCallers; ++thread)
      bodies.push_back([&, thread] {
        failures += f.callEveryStep(session, thread, kRounds);
        --callers;
      });
    bodies.push_back([&] {
      for (uint32_t step = 0; callers; step = (step + 1) % kSteps)
        failures += calibatt_session_prewarm(session.session, &step, 1, 1) != CALIBATT_STATUS_OK;
    });
    bodies.push_back([&] {
      do {
        const auto stats = session.stats();
        failures += stats.device_bytes > budget || stats.launches != stats.calls;
        char text[256];
        failures += calibatt_match(nullptr, session.session, &f.test.call, text, sizeof text) !=
                    CALIBATT_STATUS_OK;
      } while (callers);
    });
    runTogether(bodies);
    CHECK(failures == 0);
    CHECK(session.stats().calls == kCallers * kSteps * kRounds);
    CHECK(f.cuda.libraries.size() == 1);
    CHECK(f.cuda.calls["cuMemFree_v2"] > 0); // the budget was felt
  }
  f.checkLaunches(kCallers * kSteps * kRounds);
  CHECK(f.cuda.allocations.empty());
}

TEST_CASE("threads make CUDA sessions of their own on one package") {
  Fixture f;
  constexpr uint32_t kSessions = 3;
  constexpr int kRounds = 4;
  std::atomic<uint64_t> failures{0};
  std::vector<std::function<void()>> bodies;
  for (uint32_t thread = 0; thread < kSessions; ++thread)
    bodies.push_back([&, thread] {
      for (int round = 0; round < kRounds; ++round) {
        const SessionHandle session(f.package.package, cudaOptions(0));
        failures += session.status != CALIBATT_STATUS_OK;
        failures += calibatt_session_prewarm(session.session, nullptr, 0, 1) != CALIBATT_STATUS_OK;
        failures += f.callEveryStep(session, thread, 1);
        failures += session.stats().data_images != kSteps;
      }
    });
  runTogether(bodies);
  CHECK(failures == 0);
  f.checkLaunches(kSessions * kRounds * kSteps);
  CHECK(f.cuda.retained == 0);
  CHECK(f.cuda.allocations.empty());
}

// Packages and host sessions used from several threads.
#include "test/runtime/RuntimeSamples.h"
#include "test/runtime/Session.h"
#include "test/runtime/Threads.h"

#include <doctest/doctest.h>

#include <atomic>

using namespace calibatt;
using namespace calibatt::test;

namespace {

// More steps than the schedules that stay decoded, on tensors that take no time.
SampleShape manySteps() {
  SampleShape shape;
  shape.tokens = 131;
  shape.steps = 12;
  return shape;
}

calibatt_session_options_t twoThreads() {
  auto options = hostOptions();
  options.host_threads = 2;
  options.allow_dense = 1;
  return options;
}

// A call a step of the package, and one of a step it has not; each on tensors of its own.
std::vector<TestCall> callsOfEveryStep(Random &random, const SampleShape &shape) {
  std::vector<TestCall> calls;
  calls.reserve(shape.steps + 1);
  for (uint32_t step = 0; step <= shape.steps; ++step) {
    calls.emplace_back(random, CALIBATT_DTYPE_F32, Layout::Contiguous, 1, shape.heads, shape);
    calls.back().call.step = step;
  }
  return calls;
}

void checkEveryStep(Random &random, const SamplePackage &sample,
                    const std::vector<TestCall> &calls) {
  const SampleShape &shape = sample.shape;
  const Schedule dense = randomSchedule(random, shape.tokens, shape.heads, 2);
  for (uint32_t step = 0; step <= shape.steps; ++step) {
    const Schedule &schedule = step < shape.steps ? sample.schedule(0, step) : dense;
    CHECK(compareWithReference(calls[step], schedule, 0, sample.scale).relativeRms < 1e-5);
  }
}

} // namespace

TEST_CASE("threads share a session, beside prewarming, matching and reading its stats") {
  Random random;
  CAPTURE(random.seed);
  const SampleShape shape = manySteps();
  const SamplePackage sample(random, shape);
  const PackageHandle package(sample.path);
  const SessionHandle session(package.package, twoThreads());
  constexpr size_t kCallers = 2;
  std::vector<std::vector<TestCall>> calls;
  for (size_t i = 0; i < kCallers; ++i)
    calls.push_back(callsOfEveryStep(random, shape));
  const TestCall asked = calls[0][3];

  std::atomic<size_t> callers{kCallers};
  std::atomic<uint64_t> failures{0}, reads{0};
  std::vector<std::function<void()>> bodies;
  for (auto &own : calls)
    bodies.push_back([&] {
      for (TestCall &test : own)
        failures += calibatt_attention(session.session, &test.call) != CALIBATT_STATUS_OK;
      --callers;
    });
  bodies.push_back([&] {
    uint64_t last = 0;
    do {
      const auto stats = session.stats();
      failures +=
          stats.calls < last || stats.launches < stats.calls || stats.dense_fallbacks > stats.calls;
      last = stats.calls;
      ++reads;
    } while (callers);
  });
  bodies.push_back([&] {
    do {
      const uint32_t steps[] = {0, 5, 50};
      failures += calibatt_session_prewarm(session.session, steps, 3, 1) != CALIBATT_STATUS_OK;
      char text[256];
      failures += calibatt_match(package.package, session.session, &asked.call, text,
                                 sizeof text) != CALIBATT_STATUS_OK;
    } while (callers);
  });
  runTogether(bodies);
  CHECK(failures == 0);
  CHECK(reads > 0);
  for (const auto &own : calls)
    checkEveryStep(random, sample, own);
  const auto stats = session.stats();
  CHECK(stats.calls == kCallers * (shape.steps + 1));
  CHECK(stats.dense_fallbacks == kCallers);
  CHECK(std::string(stats.last_fallback_reason).find("no kernel for step 12") != std::string::npos);
}

TEST_CASE("threads make sessions of their own on one package, and its handle may go before them") {
  Random random;
  CAPTURE(random.seed);
  const SampleShape shape = manySteps();
  const SamplePackage sample(random, shape);
  PackageHandle package(sample.path);
  std::vector<std::vector<TestCall>> calls;
  for (int i = 0; i < 3; ++i)
    calls.push_back(callsOfEveryStep(random, shape));
  std::barrier sessionsMade(std::ptrdiff_t(calls.size() + 1));
  std::atomic<uint64_t> failures{0};
  std::vector<std::function<void()>> bodies;
  for (auto &own : calls)
    bodies.push_back([&] {
      const SessionHandle session(package.package, twoThreads());
      sessionsMade.arrive_and_wait();
      for (TestCall &test : own)
        failures += calibatt_attention(session.session, &test.call) != CALIBATT_STATUS_OK;
      failures += session.stats().calls != own.size();
    });
  bodies.push_back([&] {
    auto info = CALIBATT_INIT(calibatt_package_info_t);
    for (uint32_t step = 0; step < shape.steps; ++step) {
      uint8_t bits[2]; // two rows of two blocks
      failures += calibatt_package_info(package.package, &info) != CALIBATT_STATUS_OK ||
                  info.steps != shape.steps;
      failures += calibatt_site_mask(package.package, 0, 1, step, bits, 2) != CALIBATT_STATUS_OK ||
                  bits[0] == 0 || bits[1] == 0;
    }
    sessionsMade.arrive_and_wait();
    calibatt_package_close(package.package);
    package.package = nullptr;
  });
  runTogether(bodies);
  CHECK(failures == 0);
  for (const auto &own : calls)
    checkEveryStep(random, sample, own);
}

TEST_CASE("each thread has the message of its own last failure") {
  Random random;
  CAPTURE(random.seed);
  const SampleShape shape = manySteps();
  const SamplePackage sample(random, shape);
  const PackageHandle package(sample.path);
  const SessionHandle session(package.package, hostOptions());
  std::atomic<uint64_t> wrong{0};
  std::vector<std::function<void()>> bodies;
  for (uint32_t thread = 0; thread < 3; ++thread)
    bodies.push_back([&, thread] {
      for (uint32_t i = 0; i < 200; ++i) {
        auto call = CALIBATT_INIT(calibatt_call_t);
        call.batch = 1;
        call.tokens = 1000 * (thread + 1) + i;
        wrong += calibatt_attention(session.session, &call) != CALIBATT_STATUS_MISMATCH ||
                 !lastError().ends_with("call has " + std::to_string(call.tokens) + " tokens");
      }
    });
  runTogether(bodies);
  CHECK(wrong == 0);
  CHECK(session.stats().calls == 0);
}

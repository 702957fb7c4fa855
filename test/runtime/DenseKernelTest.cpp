// The dense kernel that every package has, run on the host device for the calls of a session that
// is not strict.
#include "test/runtime/RuntimeSamples.h"
#include "test/runtime/Session.h"

#include <doctest/doctest.h>

#include <cmath>

using namespace calibatt;
using namespace calibatt::test;

namespace {

calibatt_session_options_t lenient() {
  auto options = hostOptions();
  options.allow_dense = 1;
  return options;
}

std::string match(const SessionHandle &session, const calibatt_call_t &call) {
  char text[512] = "";
  calibatt_match(nullptr, session.session, &call, text, sizeof text);
  return text;
}

} // namespace

TEST_CASE("the dense kernel serves any number of heads, and is counted with its reason") {
  Random random;
  CAPTURE(random.seed);
  for (uint32_t denseHeads : {1u, 2u, 3u}) {
    SampleShape shape;
    shape.heads = 3;
    shape.denseHeads = denseHeads;
    const SamplePackage sample(random, shape);
    const PackageHandle package(sample.path);
    auto options = hostOptions();
    options.allow_dense = 1;
    const SessionHandle session(package.package, options);
    TestCall test(random, CALIBATT_DTYPE_F32, Layout::Contiguous, 1, 3, shape);
    test.call.layer = 7;
    REQUIRE_MESSAGE(calibatt_attention(session.session, &test.call) == CALIBATT_STATUS_OK,
                    lastError());
    const Schedule dense = randomSchedule(random, shape.tokens, 3, 2);
    CHECK(compareWithReference(test, dense, 0, sample.scale).relativeRms < 1e-5);
    const auto stats = session.stats();
    CHECK(stats.calls == 1);
    CHECK(stats.dense_fallbacks == 1);
    CHECK(stats.launches == (3 + denseHeads - 1) / denseHeads);
    CHECK(std::string(stats.last_fallback_reason).find("no kernel for layer 7") !=
          std::string::npos);
  }
}

TEST_CASE("a strict session never runs the dense kernel") {
  Random random;
  CAPTURE(random.seed);
  const SampleShape shape;
  const SamplePackage sample(random, shape);
  const PackageHandle package(sample.path);
  const SessionHandle session(package.package, hostOptions());
  TestCall test(random, CALIBATT_DTYPE_F32, Layout::Contiguous, 1, shape.heads, shape);
  test.call.step = 2;
  CHECK(calibatt_attention(session.session, &test.call) == CALIBATT_STATUS_MISMATCH);
  CHECK(lastError() ==
        "layer 0, step 2: the package has no kernel for step 2: it has steps 0 to 1");
  CHECK(std::isnan(test.o.get(0, 0, 0, 0)));
  const uint32_t step = 2;
  CHECK(calibatt_session_prewarm(session.session, &step, 1, 1) == CALIBATT_STATUS_MISMATCH);
  CHECK(session.stats().dense_fallbacks == 0);
  CHECK(std::string(session.stats().last_fallback_reason).empty());
}

TEST_CASE("a session that is not strict runs what the package has, and counts only the rest") {
  Random random;
  CAPTURE(random.seed);
  const SampleShape shape;
  const SamplePackage sample(random, shape);
  const PackageHandle package(sample.path);
  const SessionHandle session(package.package, lenient());
  TestCall own(random, CALIBATT_DTYPE_F32, Layout::Contiguous, 1, shape.heads, shape);
  own.call.step = 1;
  CHECK(match(session, own.call) ==
        "layer 0, step 1: fits; 1 launch, first kernel calibatt_sample_runs (form runs)");
  REQUIRE(calibatt_attention(session.session, &own.call) == CALIBATT_STATUS_OK);
  CHECK(compareWithReference(own, sample.schedule(0, 1), 0, sample.scale).relativeRms < 1e-5);
  CHECK(session.stats().dense_fallbacks == 0);

  TestCall other(random, CALIBATT_DTYPE_BF16, Layout::Padded, 2, shape.heads, shape);
  other.call.step = 50;
  CHECK(match(session, other.call) ==
        "layer 0, step 50: fits; 2 launches, first kernel calibatt_sample_runs (form runs); runs "
        "dense, because layer 0, step 50: the package has no kernel for step 50: it has steps 0 to "
        "1");
  CHECK(session.stats().dense_fallbacks == 0); // asking does not count
  REQUIRE(calibatt_attention(session.session, &other.call) == CALIBATT_STATUS_OK);
  const Schedule dense = randomSchedule(random, shape.tokens, shape.heads, 2);
  const Deviation deviation = compareWithReference(other, dense, 0, sample.scale);
  CHECK(deviation.relativeRms < 3e-3);
  CHECK(deviation.lse < 1e-4);
  CHECK(other.o.disturbedGaps() == 0);

  other.call.step = 0;
  other.call.layer = 1;
  REQUIRE(calibatt_attention(session.session, &other.call) == CALIBATT_STATUS_OK);
  const auto stats = session.stats();
  CHECK(stats.calls == 3);
  CHECK(stats.launches == 1 + 2 + 2);
  CHECK(stats.dense_fallbacks == 2);
  CHECK(std::string(stats.last_fallback_reason) ==
        "layer 1, step 0: the package has no kernel for layer 1: it has layers 0 to 0");
}

TEST_CASE(
    "the dense kernel serves a head range, and steps of the sampler that the package has not") {
  Random random;
  CAPTURE(random.seed);
  SampleShape shape;
  shape.heads = 5;
  shape.denseHeads = 5;
  const SamplePackage sample(random, shape);
  const PackageHandle package(sample.path);
  auto options = lenient();
  options.head_begin = 1;
  options.head_count = 3;
  const SessionHandle session(package.package, options);
  const uint32_t steps[] = {0, 1, 2, 3};
  REQUIRE_MESSAGE(calibatt_session_prewarm(session.session, steps, 4, 1) == CALIBATT_STATUS_OK,
                  lastError());
  TestCall test(random, CALIBATT_DTYPE_F32, Layout::TokenMajor, 1, 3, shape);
  test.call.step = 3;
  REQUIRE_MESSAGE(calibatt_attention(session.session, &test.call) == CALIBATT_STATUS_OK,
                  lastError());
  const Schedule dense = randomSchedule(random, shape.tokens, 3, 2);
  CHECK(compareWithReference(test, dense, 0, sample.scale).relativeRms < 1e-5);
  CHECK(session.stats().launches == 1);
}

TEST_CASE("what the dense kernel cannot do either is refused, with that said") {
  Random random;
  CAPTURE(random.seed);
  const SampleShape shape;
  const SamplePackage sample(random, shape);
  const PackageHandle package(sample.path);
  const SessionHandle session(package.package, lenient());
  const SessionHandle strict(package.package, hostOptions());
  const TestCall test(random, CALIBATT_DTYPE_F32, Layout::Contiguous, 1, shape.heads, shape);
  const std::string alsoDense = "; its dense kernel is compiled for the same";
  const struct {
    std::string words;
    bool compiledFor; ///< a fact of every kernel, not of the session or the tensors
    void (*breakIt)(calibatt_call_t &);
  } cases[] = {
      {"package has grid 1x1x420 (420 tokens), call has 300 tokens", true,
       [](auto &c) { c.tokens = 300; }},
      {"package has head_dim 64, call has 128", true, [](auto &c) { c.head_dim = 128; }},
      {"package was compiled for scale 0.125, call has 0.25", true,
       [](auto &c) { c.scale = 0.25; }},
      {"the call has 3 heads, wanted 2 (heads 0 to 1 of the package's 2)", false,
       [](auto &c) { c.heads = 3; }},
      {"q has head stride -8, wanted 0 to 2^40 elements", false,
       [](auto &c) { c.q_strides[1] = -8; }},
  };
  for (const auto &broken : cases)
    for (const uint32_t step : {0u, 9u}) {
      calibatt_call_t call = test.call;
      call.step = step;
      broken.breakIt(call);
      const std::string refused = "layer 0, step " + std::to_string(step) + ": " + broken.words;
      CHECK(calibatt_attention(session.session, &call) == CALIBATT_STATUS_MISMATCH);
      CHECK(lastError() == refused + (broken.compiledFor ? alsoDense : ""));
      CHECK(match(session, call) == lastError());
      CHECK(calibatt_attention(strict.session, &call) == CALIBATT_STATUS_MISMATCH);
      CHECK(lastError() == refused);
    }
  CHECK(session.stats().dense_fallbacks == 0);
  CHECK(session.stats().calls == 0);
}

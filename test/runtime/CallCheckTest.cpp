// Every condition of a call, each broken once: the status, the words, and that calibatt_match says
// exactly what the call says.
#include "test/runtime/RuntimeSamples.h"
#include "test/runtime/Session.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

using namespace calibatt;
using namespace calibatt::test;

namespace {

constexpr auto kMismatch = CALIBATT_STATUS_MISMATCH;

SampleShape grid() {
  SampleShape shape;
  shape.heads = 4;
  shape.layers = 2;
  shape.steps = 3;
  return shape;
}

calibatt_session_options_t threeHeads() {
  auto options = hostOptions();
  options.head_begin = 1;
  options.head_count = 3;
  return options;
}

// A strict host session of heads 1 to 3, and a call of two batch entries that fits it.
struct Fixture {
  Random random;
  SampleShape shape = grid();
  SamplePackage sample{random, shape};
  PackageHandle package{sample.path};
  SessionHandle session{package.package, threeHeads()};
  TestCall test{random, CALIBATT_DTYPE_F32, Layout::Contiguous, 2, 3, shape};

  struct Said {
    calibatt_status_t status;
    std::string words;
    bool operator==(const Said &) const = default;
  };

  Said match(const calibatt_package_t *asked, const calibatt_session_t *of,
             const calibatt_call_t &call) {
    char text[512];
    std::memset(text, '?', sizeof text);
    const calibatt_status_t status = calibatt_match(asked, of, &call, text, sizeof text);
    return {status, text};
  }

  void refuses(const calibatt_call_t &call, calibatt_status_t status, const std::string &words) {
    CAPTURE(words);
    CHECK(calibatt_attention(session.session, &call) == status);
    const std::string said = lastError();
    CHECK(said == "layer " + std::to_string(call.layer) + ", step " + std::to_string(call.step) +
                      ": " + words);
    CHECK(match(nullptr, session.session, call) == Said{status, said});
    CHECK(lastError() == said);
    CHECK(match(package.package, session.session, call) == Said{status, said});
  }
};

} // namespace

TEST_CASE("each condition of a call is refused with both sides, and matched with the same words") {
  Fixture f;
  const struct {
    const char *words;
    void (*breakIt)(calibatt_call_t &);
  } cases[] = {
      {"the call has batch 0, wanted 1 to 4095", [](auto &c) { c.batch = 0; }},
      {"the call has batch 4096, wanted 1 to 4095", [](auto &c) { c.batch = 4096; }},
      {"the call has 4 heads, wanted 3 (heads 1 to 3 of the package's 4)",
       [](auto &c) { c.heads = 4; }},
      {"package has grid 1x1x420 (420 tokens), call has 400 tokens",
       [](auto &c) { c.tokens = 400; }},
      {"package has head_dim 64, call has 128", [](auto &c) { c.head_dim = 128; }},
      {"package was compiled for scale 0.125, call has 0.1", [](auto &c) { c.scale = 0.1; }},
      {"package was compiled for scale 0.125, call has -0.125", [](auto &c) { c.scale = -0.125; }},
      {"package was compiled for scale 0.125, call has nan", [](auto &c) { c.scale = NAN; }},
      {"the package has no kernel for layer 2: it has layers 0 to 1", [](auto &c) { c.layer = 2; }},
      {"the package has no kernel for step 3: it has steps 0 to 2", [](auto &c) { c.step = 3; }},
      {"q has batch stride -8, wanted 0 to 2^40 elements", [](auto &c) { c.q_strides[0] = -8; }},
      {"k has head stride -8, wanted 0 to 2^40 elements", [](auto &c) { c.k_strides[1] = -8; }},
      {"v has token stride 1099511627777, wanted 0 to 2^40 elements",
       [](auto &c) { c.v_strides[2] = (int64_t(1) << 40) + 1; }},
      {"v has token stride 1099511627776, which takes its 420 token entries over more than 2^48 "
       "elements",
       [](auto &c) { c.v_strides[2] = int64_t(1) << 40; }},
      {"o has token stride 32, wanted at least 64 elements, or its rows overlap",
       [](auto &c) { c.o_strides[2] = 32; }},
      {"o has head stride 64, wanted at least 26880 elements, or its rows overlap",
       [](auto &c) { c.o_strides[1] = 64; }},
      {"o has batch stride 0, wanted at least 64 elements, or its rows overlap",
       [](auto &c) { c.o_strides[0] = 0; }},
      {"lse has head stride 400, wanted at least 420 elements, or its rows overlap",
       [](auto &c) {
         c.lse_strides[0] = 2000;
         c.lse_strides[1] = 400;
       }},
      {"lse has batch stride 420, wanted at least 1260 elements, or its rows overlap",
       [](auto &c) { c.lse_strides[0] = c.lse_strides[1] = 420; }},
      {"lse has head stride -420, wanted 0 to 2^40 elements",
       [](auto &c) { c.lse_strides[1] = -420; }},
      {"o overlaps q", [](auto &c) { c.o = const_cast<void *>(c.q); }},
      {"o overlaps k", [](auto &c) { c.o = (float *)c.k + 63; }},
      {"o and v lie in one range of memory with different strides",
       [](auto &c) {
         c.o = const_cast<void *>(c.v);
         c.v_strides[0] = 0;
       }},
      {"lse and o lie in one range of memory with different strides",
       [](auto &c) { c.lse = (float *)c.o; }},
  };
  for (const auto &broken : cases) {
    calibatt_call_t call = f.test.call;
    broken.breakIt(call);
    f.refuses(call, kMismatch, broken.words);
  }
  calibatt_call_t call = f.test.call;
  call.reserved = 5;
  f.refuses(call, CALIBATT_STATUS_INVALID_ARGUMENT, "reserved is 5, wanted 0");
  // A dtype that is none is the caller's fault, whatever package there is.
  for (const int unknown : {7, -1, 2}) {
    call = f.test.call;
    call.tokens = 400;
    std::memcpy(&call.dtype, &unknown, sizeof unknown); // as a C program would
    f.refuses(call, CALIBATT_STATUS_INVALID_ARGUMENT,
              "the call has dtype " + std::to_string(unknown) + ", wanted bf16 (0) or f32 (1)");
  }
  // Nothing was written, nothing counted, and the call as it was still runs.
  CHECK(std::isnan(f.test.o.get(0, 0, 0, 0)));
  CHECK(std::isnan(f.test.o.get(1, 2, 419, 63)));
  CHECK(std::isnan(f.test.lse[0]));
  CHECK(f.session.stats().calls == 0);
  REQUIRE_MESSAGE(calibatt_attention(f.session.session, &f.test.call) == CALIBATT_STATUS_OK,
                  lastError());
  CHECK(f.session.stats().calls == 1);
}

TEST_CASE(
    "tensors that are not at a multiple of their elements' size are refused with the address") {
  Fixture f;
  calibatt_call_t call = f.test.call;
  call.k = static_cast<const char *>(call.k) + 2;
  char address[32];
  std::snprintf(address, sizeof address, "%p", call.k);
  f.refuses(call, kMismatch,
            std::string("k is at ") + address + ", wanted a multiple of its elements' 4 bytes");
  call = f.test.call;
  call.lse = reinterpret_cast<float *>(reinterpret_cast<char *>(call.lse) + 1);
  std::snprintf(address, sizeof address, "%p", static_cast<void *>(call.lse));
  f.refuses(call, kMismatch,
            std::string("lse is at ") + address + ", wanted a multiple of its elements' 4 bytes");
}

TEST_CASE("null tensors are refused by name when computing, and not minded when asking") {
  Fixture f;
  const struct {
    const char *name;
    void (*breakIt)(calibatt_call_t &);
  } cases[] = {{"q", [](auto &c) { c.q = nullptr; }},
               {"k", [](auto &c) { c.k = nullptr; }},
               {"v", [](auto &c) { c.v = nullptr; }},
               {"o", [](auto &c) { c.o = nullptr; }}};
  for (const auto &broken : cases) {
    calibatt_call_t call = f.test.call;
    broken.breakIt(call);
    CHECK(calibatt_attention(f.session.session, &call) == CALIBATT_STATUS_INVALID_ARGUMENT);
    CHECK(lastError() == std::string("layer 0, step 0: ") + broken.name + " is null");
    CHECK(f.match(nullptr, f.session.session, call).status == CALIBATT_STATUS_OK);
  }
}

TEST_CASE("q, k, v and o packed into one buffer do not overlap") {
  Fixture f;
  // [batch, tokens, 4, heads, dim], as one projection gives it.
  const int64_t dim = f.shape.headDim, heads = 3, tokens = f.shape.tokens;
  std::vector<float> packed(size_t(2 * tokens * 4 * heads * dim));
  calibatt_call_t call = f.test.call;
  const void **inputs[] = {&call.q, &call.k, &call.v};
  TestTensor *values[] = {&f.test.q, &f.test.k, &f.test.v};
  const auto at = [&](int which) { return packed.data() + which * heads * dim; };
  for (int64_t *strides : {call.q_strides, call.k_strides, call.v_strides, call.o_strides}) {
    strides[0] = tokens * 4 * heads * dim;
    strides[1] = dim;
    strides[2] = 4 * heads * dim;
  }
  for (int i = 0; i < 3; ++i) {
    *inputs[i] = at(i);
    for (uint32_t b = 0; b < 2; ++b)
      for (uint32_t h = 0; h < 3; ++h)
        for (uint32_t t = 0; t < tokens; ++t)
          for (uint32_t d = 0; d < dim; ++d)
            at(i)[((b * tokens + t) * 4 * heads + h) * dim + d] = float(values[i]->get(b, h, t, d));
  }
  call.o = at(3);
  REQUIRE_MESSAGE(calibatt_attention(f.session.session, &call) == CALIBATT_STATUS_OK, lastError());
  for (uint32_t b = 0; b < 2; ++b)
    for (uint32_t h = 0; h < 3; ++h)
      for (uint32_t t = 0; t < tokens; ++t)
        for (uint32_t d = 0; d < dim; ++d)
          f.test.o.set(b, h, t, d, at(3)[((b * tokens + t) * 4 * heads + h) * dim + d]);
  CHECK(compareWithReference(f.test, f.sample.schedule(0, 0), 1, f.sample.scale).relativeRms <
        1e-5);
  call.o = at(3) - 1;
  f.refuses(call, kMismatch, "o overlaps v");
  call.o = at(4) - 4 * heads * dim + 1; // a whole row earlier, one element into q's first
  f.refuses(call, kMismatch, "o overlaps q");
}

TEST_CASE("inputs may repeat rows, and the strides of single entries are anything") {
  Fixture f;
  calibatt_call_t call = f.test.call;
  call.k_strides[1] = call.v_strides[1] = 0; // one head of keys and values for all
  CHECK(f.match(nullptr, f.session.session, call).status == CALIBATT_STATUS_OK);
  call = f.test.call;
  call.batch = 1;
  call.q_strides[0] = call.o_strides[0] = -7;
  CHECK(f.match(nullptr, f.session.session, call).status == CALIBATT_STATUS_OK);
}

TEST_CASE("a scale within 1e-6 of the package's is the package's") {
  Fixture f;
  calibatt_call_t call = f.test.call;
  call.scale = double(0.125f) * (1 + 5e-7);
  CHECK(f.match(nullptr, f.session.session, call).status == CALIBATT_STATUS_OK);
  call.scale = 0.125 * (1 + 2e-6);
  CHECK(f.match(nullptr, f.session.session, call).status == kMismatch);
}

TEST_CASE("a package alone is asked for all its heads, on any device") {
  Fixture f;
  const auto wanted = Fixture::Said{
      kMismatch,
      "layer 0, step 0: the call has 3 heads, wanted 4 (heads 0 to 3 of the package's 4)"};
  CHECK(f.match(f.package.package, nullptr, f.test.call) == wanted);
  calibatt_call_t call = f.test.call;
  call.heads = 0;
  for (int64_t *strides : {call.q_strides, call.k_strides, call.v_strides, call.o_strides})
    std::fill_n(strides, 3, 0);
  call.o = call.lse = nullptr;
  const auto fits = f.match(f.package.package, nullptr, call);
  CHECK(fits.status == CALIBATT_STATUS_OK);
  CHECK(fits.words ==
        "layer 0, step 0: fits; 1 launch, first kernel calibatt_sample_runs (form runs)");
  call.o = const_cast<void *>(call.q);
  CHECK(f.match(f.package.package, nullptr, call).words == "layer 0, step 0: o overlaps q");
}

TEST_CASE("matching says so where it cannot be asked, and cuts its words to the buffer") {
  Fixture f;
  calibatt_call_t call = f.test.call;
  using Said = Fixture::Said;
  CHECK(f.match(nullptr, nullptr, call) ==
        Said{CALIBATT_STATUS_INVALID_ARGUMENT, "calibatt_match: both package and session is null"});
  const PackageHandle other(f.sample.path);
  CHECK(
      f.match(other.package, f.session.session, call) ==
      Said{CALIBATT_STATUS_INVALID_ARGUMENT, "calibatt_match: the session is of another package"});
  call.struct_size = sizeof call + 8;
  CHECK(f.match(nullptr, f.session.session, call).words.find("calibatt_match: struct_size is") ==
        0);
  char four[4];
  call = f.test.call;
  call.tokens = 7;
  CHECK(calibatt_match(nullptr, f.session.session, &call, four, sizeof four) == kMismatch);
  CHECK(std::string(four) == "lay");
  CHECK(calibatt_match(nullptr, f.session.session, &call, nullptr, 0) == kMismatch);
}

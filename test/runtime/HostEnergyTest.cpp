// Block energies on the host device, against the float64 definitions of calib_profiles.
#include "calib_profiles/Energy.h"
#include "calib_profiles/Repetition.h"
#include "calib_profiles/Selection.h"
#include "test/runtime/RuntimeSamples.h"
#include "test/runtime/Session.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

using namespace calibatt;
using namespace calibatt::test;

namespace {

/// A call for everything there is, all outputs NaN at first.
struct EnergyCall {
  const TestCall &test;
  uint32_t heads, blocks;
  std::vector<float> energies, rowMax;
  std::vector<uint8_t> cover;
  calibatt_energy_t energy = CALIBATT_INIT(calibatt_energy_t);

  explicit EnergyCall(const TestCall &test)
      : test(test), heads(test.q.batch * test.q.heads), blocks((test.q.tokens + 127) / 128),
        energies(size_t(heads) * blocks * blocks, std::numeric_limits<float>::quiet_NaN()),
        rowMax(size_t(heads) * test.q.tokens, std::numeric_limits<float>::quiet_NaN()),
        cover(size_t(heads) * blocks * rowBytes(), 0xFF) {
    energy.epsilon = 0.842;
    energy.cover = cover.data();
    energy.energies = energies.data();
    energy.row_max = rowMax.data();
  }

  size_t rowBytes() const { return (blocks + 7) / 8; }

  /// One head of a tensor as calib_profiles wants it.
  std::vector<float> rows(const TestTensor &tensor, uint32_t head) const {
    std::vector<float> rows;
    for (uint32_t t = 0; t < tensor.tokens; ++t)
      for (uint32_t d = 0; d < tensor.dim; ++d)
        rows.push_back(float(tensor.get(head / tensor.heads, head % tensor.heads, t, d)));
    return rows;
  }

  /// Energies of one head, log-sum-exps and row maxima in float64.
  BlockEnergies wanted(uint32_t head, double scale) const {
    const std::vector<float> q = rows(test.q, head), k = rows(test.k, head);
    const HeadInput input{q, k, test.q.tokens, test.q.dim, scale};
    return blockEnergies(input, KeyBlocks(input));
  }

  /// Whether the cover is that of the energies that were returned.
  uint32_t wrongBits() const {
    uint32_t wrong = 0;
    for (size_t row = 0; row < size_t(heads) * blocks; ++row) {
      const std::span<const float> of(energies.data() + row * blocks, blocks);
      const RowCover want = minimumCover(of, energy.epsilon);
      for (uint32_t c = 0; c < 8 * rowBytes(); ++c)
        wrong += (cover[row * rowBytes() + c / 8] >> (c % 8) & 1) !=
                 (c < blocks && want.keeps(of[c], c));
    }
    return wrong;
  }
};

} // namespace

TEST_CASE("energies on the host are those of the definition, beside dense attention") {
  for (const uint32_t tokens : {420u, 256u, 131u, 1u})
    for (const auto dtype : {CALIBATT_DTYPE_BF16, CALIBATT_DTYPE_F32}) {
      CAPTURE(tokens);
      CAPTURE(int(dtype));
      Random random;
      SampleShape shape;
      shape.tokens = tokens;
      SamplePackage sample(random, shape);
      const PackageHandle package(sample.path);
      const SessionHandle session(package.package, hostOptions());
      TestCall test(random, dtype, Layout::Padded, 2, shape.heads, shape, 3);
      test.call.layer = 77; // of a model that no package has been made for yet
      EnergyCall call(test);
      uint64_t workspace = 1;
      REQUIRE(calibatt_energy_workspace(session.session, &test.call, &call.energy, &workspace) ==
              CALIBATT_STATUS_OK);
      CHECK(workspace == 0);
      REQUIRE_MESSAGE(calibatt_energy(session.session, &test.call, &call.energy) ==
                          CALIBATT_STATUS_OK,
                      lastError());

      for (uint32_t head = 0; head < call.heads; ++head) {
        const BlockEnergies want = call.wanted(head, sample.scale);
        double energyError = 0, lseError = 0, maxError = 0;
        for (uint32_t r = 0; r < call.blocks; ++r) {
          double sum = 0;
          for (uint32_t c = 0; c < call.blocks; ++c) {
            const size_t at = size_t(r) * call.blocks + c;
            const float got = call.energies[size_t(head) * call.blocks * call.blocks + at];
            sum += got;
            energyError += std::abs(double(got) - want.energies[at]);
          }
          CHECK(sum == doctest::Approx(1).epsilon(1e-5));
        }
        for (uint32_t t = 0; t < tokens; ++t) {
          lseError += std::abs(test.lse[size_t(head) * tokens + t] - want.lse[t]);
          maxError += std::abs(call.rowMax[size_t(head) * tokens + t] - want.rowMax[t]);
        }
        CHECK(energyError / call.blocks < 1e-5);
        CHECK(lseError / tokens < 1e-5);
        CHECK(maxError / tokens < 1e-5);
      }
      CHECK(call.wrongBits() == 0);
      CHECK(test.o.disturbedGaps() == 0);

      Schedule dense = sample.schedule(0, 0);
      dense.classes = {{}};
      for (uint32_t block = call.blocks; block-- > 0;)
        dense.classes[0].push_back(uint16_t(block));
      std::fill(dense.rowClass.begin(), dense.rowClass.end(), 0);
      CHECK(compareWithReference(test, dense, 0, sample.scale).relativeRms < 6e-3);
    }
}

TEST_CASE("weighted energies weigh the attention to a key by the norm of its value") {
  Random random;
  SampleShape shape;
  SamplePackage sample(random, shape);
  const PackageHandle package(sample.path);
  const SessionHandle session(package.package, hostOptions());
  TestCall plain(random, CALIBATT_DTYPE_F32, Layout::Contiguous, 1, shape.heads, shape);
  // Norms that are equal within a block scale the plain energies of its column.
  for (uint32_t h = 0; h < shape.heads; ++h)
    for (uint32_t t = 0; t < shape.tokens; ++t)
      for (uint32_t d = 0; d < shape.headDim; ++d)
        plain.v.set(0, h, t, d, d == t % shape.headDim ? 1.0 + t / 128 : 0.0);
  EnergyCall first(plain), second(plain);
  second.energy.weighted = 1;
  second.energy.epsilon = 0.5;
  for (EnergyCall *call : {&first, &second})
    REQUIRE_MESSAGE(calibatt_energy(session.session, &plain.call, &call->energy) ==
                        CALIBATT_STATUS_OK,
                    lastError());
  for (size_t i = 0; i < first.energies.size(); ++i)
    CHECK(second.energies[i] ==
          doctest::Approx(first.energies[i] * (1.0 + double(i % first.blocks))).epsilon(1e-5));
  CHECK(second.wrongBits() == 0);
}

TEST_CASE("repetition on the host is the median cosine of attention rows") {
  Random random;
  SampleShape shape;
  shape.tokens = 504;
  shape.frames = 2;
  shape.height = 7; // of which 5 are anchors
  SamplePackage sample(random, shape);
  const PackageHandle package(sample.path);
  const SessionHandle session(package.package, hostOptions());
  TestCall test(random, CALIBATT_DTYPE_BF16, Layout::TokenMajor, 2, shape.heads, shape);
  EnergyCall call(test);
  std::vector<float> scores(call.heads, std::numeric_limits<float>::quiet_NaN());
  call.energy.repetition = scores.data();
  REQUIRE_MESSAGE(calibatt_energy(session.session, &test.call, &call.energy) == CALIBATT_STATUS_OK,
                  lastError());
  for (uint32_t head = 0; head < call.heads; ++head) {
    const std::vector<float> q = call.rows(test.q, head), k = call.rows(test.k, head);
    const HeadInput input{q, k, shape.tokens, shape.headDim, sample.scale};
    const KeyBlocks keys(input);
    const Grid grid{shape.frames, shape.height, shape.tokens / (shape.frames * shape.height)};
    const double want = repetitionScore(input, keys, blockEnergies(input, keys).lse, grid, 5);
    CHECK(scores[head] == doctest::Approx(want).epsilon(1e-4));
  }
}

TEST_CASE("a call for energies may leave out what it does not want") {
  Random random;
  SampleShape shape;
  SamplePackage sample(random, shape);
  const PackageHandle package(sample.path);
  const SessionHandle session(package.package, hostOptions());
  TestCall test(random, CALIBATT_DTYPE_F32, Layout::Contiguous, 1, shape.heads, shape);
  EnergyCall all(test), some(test);
  REQUIRE(calibatt_energy(session.session, &test.call, &all.energy) == CALIBATT_STATUS_OK);
  some.energy.energies = nullptr;
  some.energy.row_max = nullptr;
  test.call.lse = nullptr;
  REQUIRE(calibatt_energy(session.session, &test.call, &some.energy) == CALIBATT_STATUS_OK);
  CHECK(some.cover == all.cover);
}

TEST_CASE("what is wrong with a call for energies is named") {
  Random random;
  SampleShape shape;
  SamplePackage sample(random, shape);
  const PackageHandle package(sample.path);
  const SessionHandle session(package.package, hostOptions());
  TestCall test(random, CALIBATT_DTYPE_F32, Layout::Contiguous, 1, shape.heads, shape);
  test.call.layer = 3;
  test.call.step = 9;
  const EnergyCall call(test);
  const auto refused = [&](auto change, const char *words) {
    calibatt_energy_t energy = call.energy;
    calibatt_call_t attention = test.call;
    change(attention, energy);
    CHECK(calibatt_energy(session.session, &attention, &energy) != CALIBATT_STATUS_OK);
    CHECK_MESSAGE(lastError().find(words) != std::string::npos, lastError());
  };
  using Call = calibatt_call_t;
  using Energy = calibatt_energy_t;
  refused([](Call &, Energy &e) { e.epsilon = 1.5; }, "layer 3, step 9: epsilon is 1.5, wanted");
  refused([](Call &, Energy &e) { e.epsilon = std::nan(""); }, "epsilon is nan");
  refused([](Call &, Energy &e) { e.weighted = 2; }, "weighted is 2");
  refused([](Call &, Energy &e) { e.reserved = 7; }, "reserved 7");
  refused([](Call &, Energy &e) { e.struct_size = 4096; }, "struct_size is 4096");
  refused([](Call &c, Energy &) { c.tokens = 419; }, "call has 419 tokens");
  refused([](Call &c, Energy &) { c.q = nullptr; }, "q is null");
  refused([](Call &, Energy &e) { e.repetition = reinterpret_cast<float *>(0x1000); },
          "a grid of 1x1x420 with 0 text tokens has no rows to score against 5 anchor rows");
  refused([](Call &, Energy &e) { e.row_max = reinterpret_cast<float *>(0x1002); },
          "row_max is at 0x1002");
  CHECK(calibatt_energy(nullptr, &test.call, &call.energy) == CALIBATT_STATUS_INVALID_ARGUMENT);
  CHECK(calibatt_energy(session.session, &test.call, nullptr) == CALIBATT_STATUS_INVALID_ARGUMENT);
  CHECK(calibatt_energy_workspace(session.session, &test.call, &call.energy, nullptr) ==
        CALIBATT_STATUS_INVALID_ARGUMENT);
}

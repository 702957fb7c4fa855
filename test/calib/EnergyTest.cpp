// Block energies and the energy schedule.
#include "calib_profiles/EnergySchedule.h"
#include "test/calib/RandomInputs.h"

#include <doctest/doctest.h>

using namespace calibatt;
using namespace calibatt::test;

TEST_CASE("block energies are the block sums of the full attention matrix") {
  const uint64_t seed = freshSeed();
  CAPTURE(seed);
  for (auto [tokens, headDim] :
       {std::pair{420u, 64u}, {560u, 128u}, {131u, 64u}, {128u, 64u}, {1u, 64u}}) {
    CAPTURE(tokens);
    const RandomHead head(tokens, headDim, seed + tokens);
    const auto p = head.attention();
    const BlockEnergies got = blockEnergies(head.input(), KeyBlocks(head.input()));
    const uint32_t blocks = (tokens + 127) / 128;
    REQUIRE(got.blocks == blocks);
    for (uint32_t r = 0; r < blocks; ++r) {
      const uint32_t first = r * 128, last = std::min(first + 128, tokens);
      double sum = 0;
      for (uint32_t c = 0; c < blocks; ++c) {
        double energy = 0;
        for (uint32_t i = first; i < last; ++i)
          for (uint32_t j = c * 128; j < std::min(c * 128 + 128, tokens); ++j)
            energy += p[i][j];
        energy /= last - first;
        CHECK(got.energies[r * blocks + c] == doctest::Approx(energy).epsilon(1e-6));
        sum += got.energies[r * blocks + c];
      }
      CHECK(sum == doctest::Approx(1).epsilon(1e-6));
    }
  }
}

TEST_CASE("log-sum-exp and row maxima are those of the scaled logits") {
  const uint64_t seed = freshSeed();
  CAPTURE(seed);
  const RandomHead head(300, 64, seed, 6); // large logits: exp alone would overflow float
  const BlockEnergies got = blockEnergies(head.input(), KeyBlocks(head.input()));
  for (uint64_t i = 0; i < head.tokens; ++i) {
    std::vector<double> logits;
    for (uint64_t j = 0; j < head.tokens; ++j) {
      double dot = 0;
      for (uint32_t d = 0; d < 64; ++d)
        dot += double(head.q[i * 64 + d]) * double(head.k[j * 64 + d]);
      logits.push_back(dot * head.scale);
    }
    const double max = *std::max_element(logits.begin(), logits.end());
    double sum = 0;
    for (double x : logits)
      sum += std::exp(x - max);
    CHECK(got.rowMax[i] == doctest::Approx(max).epsilon(1e-6));
    CHECK(got.lse[i] == doctest::Approx(max + std::log(sum)).epsilon(1e-12));
  }
}

TEST_CASE("the energy schedule has the paper's parameters") {
  CHECK(lateEnergy(32760) == doctest::Approx(0.842).epsilon(1e-3));
  CHECK(lateEnergy(75600) == doctest::Approx(0.903).epsilon(1e-3));
  CHECK(lateEnergy(500000) == 0.99);
  const EnergySchedule wan = defaultSchedule(32760, 50);
  CHECK(wan.epsilon(0) == doctest::Approx(0.99));
  CHECK(wan.epsilon(10) == doctest::Approx(wan.a + (0.99 - wan.a) * std::exp(-3.2)));
  CHECK(wan.epsilon(49) == doctest::Approx(wan.a).epsilon(1e-5));
  const EnergySchedule distilled = defaultSchedule(32760, 4);
  CHECK(distilled.epsilon(0) == doctest::Approx(0.863));
  CHECK(distilled.epsilon(3) == doctest::Approx(0.763 + 0.1 * std::exp(-5.64 * 0.75)));
  for (uint32_t step = 1; step < 50; ++step)
    CHECK(wan.epsilon(step) < wan.epsilon(step - 1));
}

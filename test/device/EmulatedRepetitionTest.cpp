// The kernels that score repetition, executed on the model of the device one after another, and
// compared with the score of calib_profiles, which has every attention row.
#include "CalibrationSamples.h"
#include "EmulatedTensor.h"
#include "calib_profiles/Repetition.h"

#include <doctest/doctest.h>
#include <limits>

using namespace calibatt;
using namespace calibatt::test;

extern void (*const kCalibrationEntries[])();

namespace {

template <typename Params> void launch(size_t entry, unsigned ctas, uint64_t seed, Params &params) {
  auto kernel = reinterpret_cast<void (*)(Params)>(kCalibrationEntries[entry]);
  emulator::launch(ctas, seed, [&] { kernel(params); });
}

} // namespace

TEST_CASE("log-sum-exps of summed queries give the cosines of attention rows") {
  const auto samples = calibrationSamples();
  for (size_t i = 0; i < samples.size(); ++i) {
    if (samples[i].kernel != CalibrationKernel::PairLse)
      continue;
    const AttentionSpec &spec = samples[i].spec;
    const uint64_t seed = std::random_device{}();
    CAPTURE(spec.tokens);
    CAPTURE(seed);
    std::mt19937_64 random(seed);
    const uint32_t heads = 2, tokens = uint32_t(spec.tokens), dim = uint32_t(spec.head_dim);
    const unsigned ctas = heads * unsigned(blockCount(spec));
    Tensor q(1, heads, tokens, dim), k = q;
    q.randomise(random, 2);
    k.randomise(random, 1);
    // The second head's rows of a frame are nearly the same.
    std::normal_distribution<float> normal(0, 0.3f);
    const uint32_t width = uint32_t(spec.grid_width), frame = width * uint32_t(spec.grid_height);
    for (uint32_t t = 0; t < tokens; ++t)
      for (uint32_t d = 0; d < dim; ++d)
        q.at(0, 1, t, d) =
            toBf16(float(fromBf16(q.at(0, 0, t / frame * frame + t % width, d))) + normal(random));

    const Grid grid{tokens / frame, uint32_t(spec.grid_height), width};
    std::vector<float> lse, pair(heads * tokens, std::numeric_limits<float>::quiet_NaN()),
        self = pair, scores(heads, std::numeric_limits<float>::quiet_NaN());
    std::vector<double> wanted;
    for (uint32_t h = 0; h < heads; ++h) {
      std::vector<float> qs, ks;
      for (uint32_t t = 0; t < tokens; ++t)
        for (uint32_t d = 0; d < dim; ++d) {
          qs.push_back(float(fromBf16(q.at(0, h, t, d))));
          ks.push_back(float(fromBf16(k.at(0, h, t, d))));
        }
      const HeadInput input{qs, ks, tokens, dim, spec.scale};
      const KeyBlocks keys(input);
      const BlockEnergies energies = blockEnergies(input, keys);
      lse.insert(lse.end(), energies.lse.begin(), energies.lse.end());
      wanted.push_back(repetitionScore(input, keys, energies.lse, grid, uint32_t(spec.anchors)));
    }

    LseParams params{};
    params.attention.q = q.map(128, dim / 64);
    params.attention.k = k.map(128, dim / 64);
    params.attention.q_data = reinterpret_cast<const unsigned char *>(q.data.data());
    params.attention.q_strides[1] = dim * 2;
    params.attention.q_strides[2] = int64_t(heads) * dim * 2;
    params.heads = heads;
    params.lse = pair.data();
    launch(i, ctas, seed, params);
    params.lse = self.data();
    launch(i + 1, ctas, seed, params);
    RepetitionParams score{lse.data(), 0, tokens, pair.data(), self.data(), heads, scores.data()};
    launch(i + 2, heads, seed, score);
    for (uint32_t h = 0; h < heads; ++h)
      CHECK(scores[h] == doctest::Approx(wanted[h]).epsilon(2e-4));
    CHECK(scores[1] > scores[0] + 0.1);
  }
}

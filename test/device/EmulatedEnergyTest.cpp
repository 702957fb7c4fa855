// The energy kernels, executed on the model of the device and compared with block
// energies from the whole attention matrix in float64.
#include "CalibrationSamples.h"
#include "EmulatedTensor.h"

#include <algorithm>
#include <doctest/doctest.h>
#include <limits>

using namespace calibatt;
using namespace calibatt::test;

extern void (*const kCalibrationEntries[])();

namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

template <typename Params> void launch(size_t entry, unsigned ctas, uint64_t seed, Params &params) {
  auto kernel = reinterpret_cast<void (*)(Params)>(kCalibrationEntries[entry]);
  emulator::launch(ctas, seed, [&] { kernel(params); });
}

/// A call of a sample and what came of it.
struct EnergyRun {
  const AttentionSpec spec;
  const bool weighted;
  const uint32_t batch = 2, heads = 2, tokens, dim, blocks;
  Tensor q, k, v, o;
  std::vector<float> lse, norms, energies, rowMax;

  explicit EnergyRun(const AttentionSpec &spec, bool weighted = false)
      : spec(spec), weighted(weighted), tokens(uint32_t(spec.tokens)), dim(uint32_t(spec.head_dim)),
        blocks(uint32_t(blockCount(spec))), q(batch, heads, tokens, dim), k(q), v(q), o(q),
        lse(size_t(batch) * heads * tokens, kNaN),
        norms(size_t(batch) * heads * blocks * kTileKeys, 0.0f),
        energies(size_t(batch) * heads * blocks * blocks, kNaN),
        rowMax(size_t(batch) * heads * tokens, kNaN) {}

  void run(size_t entry, float spread, uint64_t seed) {
    std::mt19937_64 random(seed);
    q.randomise(random, spread);
    k.randomise(random, 1);
    v.randomise(random, 1);
    for (uint32_t h = 0; h < batch * heads; ++h)
      for (uint32_t t = 0; t < tokens; ++t)
        norms[size_t(h) * blocks * kTileKeys + t] = valueNorm(h / heads, h % heads, t);
    // Two slots, though one CTA runs at a time; the sums of one CTA must not reach another.
    std::vector<uint32_t> slots(2, 0);
    std::vector<float> sums(size_t(slots.size()) * blocks * kTileRows, kNaN);
    EnergyParams params{};
    params.attention.q = q.map(128, dim / 64);
    params.attention.k = k.map(128, dim / 64);
    params.attention.v = v.map(128, dim / 64);
    params.attention.o = o.map(64, 1);
    params.attention.lse = lse.data();
    params.attention.lse_head_stride = tokens;
    params.attention.lse_batch_stride = int64_t(heads) * tokens;
    params.sums = sums.data();
    params.slots = slots.data();
    params.slot_count = unsigned(slots.size());
    params.heads = heads;
    params.norms = norms.data();
    params.energies = energies.data();
    params.row_max = rowMax.data();
    launch(entry, batch * heads * blocks, seed, params);
    CHECK(slots == std::vector<uint32_t>(2, 0));
  }

  float valueNorm(uint32_t b, uint32_t h, uint32_t t) {
    double sum = 0;
    for (uint32_t d = 0; d < dim; ++d)
      sum += fromBf16(v.at(b, h, t, d)) * fromBf16(v.at(b, h, t, d));
    return float(std::sqrt(sum));
  }

  /// Compares everything with the definitions.
  void check() {
    double outputError = 0, outputNorm = 0, lseError = 0, maxError = 0, energyError = 0;
    for (uint32_t h = 0; h < batch * heads; ++h) {
      std::vector<double> want(size_t(blocks) * blocks);
      for (uint32_t t = 0; t < tokens; ++t) {
        std::vector<double> p(tokens), out(dim);
        double maximum = -std::numeric_limits<double>::infinity(), sum = 0;
        for (uint32_t j = 0; j < tokens; ++j) {
          double dot = 0;
          for (uint32_t d = 0; d < dim; ++d)
            dot += fromBf16(q.at(h / heads, h % heads, t, d)) *
                   fromBf16(k.at(h / heads, h % heads, j, d));
          p[j] = dot * spec.scale;
          maximum = std::max(maximum, p[j]);
        }
        for (double &x : p)
          sum += x = std::exp(x - maximum);
        const uint32_t r = t / kTileRows, rows = std::min(tokens - r * kTileRows, 128u);
        for (uint32_t j = 0; j < tokens; ++j) {
          const double weight = weighted ? norms[size_t(h) * blocks * kTileKeys + j] : 1.0;
          want[size_t(r) * blocks + j / kTileKeys] += p[j] / sum * weight / rows;
          for (uint32_t d = 0; d < dim; ++d)
            out[d] += p[j] / sum * fromBf16(v.at(h / heads, h % heads, j, d));
        }
        for (uint32_t d = 0; d < dim; ++d) {
          const double error = fromBf16(o.at(h / heads, h % heads, t, d)) - out[d];
          outputError += error * error;
          outputNorm += out[d] * out[d];
        }
        const size_t at = size_t(h) * tokens + t;
        lseError += std::abs(lse[at] - (maximum + std::log(sum)));
        maxError += std::abs(rowMax[at] - maximum);
      }
      for (uint32_t r = 0; r < blocks; ++r) {
        double total = 0;
        for (uint32_t c = 0; c < blocks; ++c) {
          const double got = energies[(size_t(h) * blocks + r) * blocks + c];
          total += got;
          // A sum, so that NaN shows.
          energyError += std::abs(got - want[size_t(r) * blocks + c]);
        }
        if (!weighted)
          CHECK(total == doctest::Approx(1).epsilon(1e-5));
      }
    }
    const double rows = double(batch) * heads * tokens;
    CHECK(std::sqrt(outputError / outputNorm) < 6e-3);
    CHECK(lseError / rows < 1e-5);
    CHECK(maxError / rows < 1e-5);
    // Weighted ones are tens of times larger.
    CHECK(energyError / (double(batch) * heads * blocks) < (weighted ? 2e-4 : 1e-5));
  }
};

} // namespace

TEST_CASE("energies, outputs, log-sum-exps and row maxima are those of the attention matrix") {
  std::random_device entropy;
  const auto samples = calibrationSamples();
  for (size_t i = 0; i < samples.size(); ++i) {
    const bool weighted = samples[i].kernel == CalibrationKernel::WeightedEnergy;
    if (!weighted && samples[i].kernel != CalibrationKernel::Energy)
      continue;
    const AttentionSpec &spec = samples[i].spec;
    for (float spread : {1.0f, 8.0f}) {
      const uint64_t seed = entropy();
      CAPTURE(spec.tokens);
      CAPTURE(spread);
      CAPTURE(seed);
      EnergyRun run(spec, weighted);
      run.run(i, spread, seed);
      run.check();
      for (uint32_t d = 0; d < run.dim; ++d) // behind the tail
        REQUIRE(run.o.at(1, 1, run.tokens, d) == 0x7FFF);
    }
  }
}

TEST_CASE("norms of values are zero behind the last token") {
  const auto samples = calibrationSamples();
  for (size_t i = 0; i < samples.size(); ++i) {
    if (samples[i].kernel != CalibrationKernel::Norms)
      continue;
    EnergyRun run(samples[i].spec);
    std::mt19937_64 random(std::random_device{}());
    run.v.randomise(random, 1);
    run.norms.assign(run.norms.size(), kNaN);
    NormParams params{};
    params.v = reinterpret_cast<const unsigned char *>(run.v.data.data());
    params.v_strides[0] = int64_t(run.tokens + 2) * run.heads * run.dim * 2;
    params.v_strides[1] = run.dim * 2;
    params.v_strides[2] = int64_t(run.heads) * run.dim * 2;
    params.batch = run.batch;
    params.heads = run.heads;
    params.norms = run.norms.data();
    launch(i, 3, random(), params);
    const uint32_t padded = run.blocks * kTileKeys;
    for (uint32_t h = 0; h < run.batch * run.heads; ++h)
      for (uint32_t t = 0; t < padded; ++t) {
        const float got = run.norms[size_t(h) * padded + t];
        if (t < run.tokens)
          CHECK(got == doctest::Approx(run.valueNorm(h / run.heads, h % run.heads, t)));
        else
          CHECK(got == 0.0f);
      }
  }
}

// Emitted kernels of every form, executed on the model of the device and
// compared with a float64 masked reference.
#include "EmulatedTensor.h"
#include "SamplePlans.h"
#include "runtime/format/LaunchParams.h"

#include <algorithm>
#include <array>
#include <doctest/doctest.h>
#include <limits>
#include <random>
#include <set>

using namespace calibatt;
using test::fromBf16;
using test::Tensor;
using test::toBf16;

extern void (*const kSampleEntries[])(calibatt::LaunchParams);

namespace {

struct Errors {
  double relative = 0, lse = 0;
  uint64_t reruns = 0, tiles = 0;
  /// Tiles that have a row whose weights, relative to its largest logit in the first block, sum to
  /// more than a frozen maximum bears; so near the bound that either is right.
  std::set<std::array<uint32_t, 3>> late, near;
};

/// What a call is made of besides random numbers.
struct Call {
  float spread = 1; ///< deviation of Q
  float late = 0;   ///< log2 by which every block's largest logit is above those visited before it
  bool lse = true;
};

/// Logits that are, but for noise, 0 in all keys but one of every block.
void makeLate(Tensor &q, Tensor &k, float late, float scale) {
  const uint32_t half = q.dim / 2, blocks = (q.tokens + kBlock - 1) / kBlock;
  for (uint32_t b = 0; b < q.batch; ++b) {
    for (uint32_t h = 0; h < q.heads; ++h) {
      for (uint32_t t = 0; t < q.tokens; ++t) {
        const bool bump = t % kBlock == std::min(5u, q.tokens % kBlock);
        const uint32_t block = t / kBlock;
        const double logit = bump ? double(blocks - block) * late * std::log(2.0) : 0;
        for (uint32_t d = 0; d < half; ++d) {
          q.at(b, h, t, d) = toBf16(float(1 + 0.01 * fromBf16(q.at(b, h, t, d))));
          k.at(b, h, t, d) =
              toBf16(float(logit / scale / half + 0.01 * fromBf16(k.at(b, h, t, d))));
        }
        for (uint32_t d = half; d < q.dim; ++d)
          k.at(b, h, t, d) = 0;
      }
    }
  }
}

Errors runSample(const test::SamplePlan &sample, void (*entry)(LaunchParams), const Call &call,
                 uint64_t seed) {
  const Schedule &schedule = sample.schedule;
  const uint32_t tokens = schedule.tokens, dim = uint32_t(sample.plan.spec.head_dim), batch = 2;
  const uint32_t headBase = 1, heads = schedule.heads + headBase;
  std::mt19937_64 random(seed);
  Tensor q(batch, heads, tokens, dim), k = q, v = q, o = q;
  q.randomise(random, call.spread);
  k.randomise(random, 1);
  v.randomise(random, 1);
  if (call.late > 0)
    makeLate(q, k, call.late, sample.plan.spec.scale);
  std::vector<float> lse(size_t(batch) * heads * tokens, std::numeric_limits<float>::quiet_NaN());

  std::vector<uint32_t> work;
  for (uint32_t b = 0; b < batch; ++b)
    for (uint32_t h = 0; h < schedule.heads; ++h)
      for (uint32_t row = 0; row < schedule.queryBlocks; ++row)
        work.push_back(packWork(row, h + headBase, b));
  std::shuffle(work.begin(), work.end(), random);
  std::vector<uint8_t> image;
  LaunchParams params{};
  if (sample.plan.form == Form::Runs || sample.plan.form == Form::Table) {
    image = buildScheduleImage(schedule, sample.plan.form);
    params.schedule = image.data();
  }
  params.q = q.map(128, dim / 64);
  params.k = k.map(128, dim / 64);
  params.v = v.map(128, dim / 64);
  params.o = o.map(64, 1);
  params.work = work.data();
  params.work_count = uint32_t(work.size());
  params.q_data = reinterpret_cast<const unsigned char *>(q.data.data());
  params.o_data = reinterpret_cast<unsigned char *>(o.data.data());
  const long long strides[3] = {int64_t(tokens + 2) * heads * dim * 2, dim * 2,
                                int64_t(heads) * dim * 2};
  std::copy_n(strides, 3, params.q_strides);
  std::copy_n(strides, 3, params.o_strides);
  params.lse = call.lse ? lse.data() : nullptr;
  params.lse_head_stride = tokens;
  params.lse_batch_stride = int64_t(heads) * tokens;
  params.head_base = headBase;
  // CTAs of a persistent kernel have lists of several tiles, the last one of none.
  std::vector<uint32_t> begins;
  if (sample.plan.spec.persistent) {
    begins = {0, params.work_count / 2, params.work_count, params.work_count};
    params.work_begin = begins.data();
  }
  unsigned long long reruns = 0;
  params.reruns = &reruns;
  emulator::launch(begins.empty() ? params.work_count : 3, seed, [&] { entry(params); });

  double difference = 0, norm = 0;
  Errors errors;
  for (uint32_t b = 0; b < batch; ++b) {
    for (uint32_t h = headBase; h < heads; ++h) {
      for (uint32_t t = 0; t < tokens; ++t) {
        const uint32_t query =
            schedule.isRepetitive(h - headBase) ? anchorToken(schedule.grid, t) : t;
        std::vector<std::pair<double, uint32_t>> logits;
        double maximum = -std::numeric_limits<double>::infinity();
        for (uint16_t block : schedule.row(h - headBase, t / kBlock)) {
          for (uint32_t j = block * kBlock; j < std::min((block + 1) * kBlock, tokens); ++j) {
            double dot = 0;
            for (uint32_t d = 0; d < dim; ++d)
              dot += fromBf16(q.at(b, h, query, d)) * fromBf16(k.at(b, h, j, d));
            logits.push_back({dot * sample.plan.spec.scale, j});
            maximum = std::max(maximum, logits.back().first);
          }
        }
        const auto firstBlock = [&](const auto &entry) {
          return entry.second / kBlock == logits.front().second / kBlock;
        };
        double reference = -std::numeric_limits<double>::infinity(), ofReference = 0;
        for (const auto &entry : logits)
          reference = firstBlock(entry) ? std::max(reference, entry.first) : reference;
        for (const auto &entry : logits)
          ofReference += std::exp(entry.first - reference);
        if (std::abs(std::log2(ofReference) - 64) < 0.5)
          errors.near.insert({b, h, t / kBlock});
        else if (ofReference > 0x1p64)
          errors.late.insert({b, h, t / kBlock});
        double sum = 0;
        std::vector<double> expected(dim);
        for (auto [logit, j] : logits) {
          double p = std::exp(logit - maximum);
          sum += p;
          for (uint32_t d = 0; d < dim; ++d)
            expected[d] += p * fromBf16(v.at(b, h, j, d));
        }
        for (uint32_t d = 0; d < dim; ++d) {
          double want = expected[d] / sum, got = fromBf16(o.at(b, h, t, d));
          difference += (got - want) * (got - want);
          norm += want * want;
        }
        if (!call.lse)
          continue;
        double gotLse = lse[(size_t(b) * heads + h) * tokens + t];
        double error = std::abs(gotLse - (maximum + std::log(sum)));
        errors.lse = std::isnan(error) ? error : std::max(errors.lse, error);
      }
    }
    // Heads outside the launch and the memory behind the tail are untouched.
    for (uint32_t d = 0; d < dim; ++d) {
      REQUIRE(o.at(b, 0, tokens - 1, d) == 0x7FFF);
      REQUIRE(o.at(b, heads - 1, tokens, d) == 0x7FFF);
    }
  }
  errors.relative = std::sqrt(difference / norm);
  errors.reruns = reruns;
  errors.tiles = work.size();
  return errors;
}

} // namespace

TEST_CASE("every form of kernel computes masked attention on the model of the device") {
  std::random_device entropy;
  std::vector<test::SamplePlan> samples = test::samplePlans();
  for (size_t i = 0; i < samples.size(); ++i) {
    for (float spread : {1.0f, 8.0f}) {
      uint64_t seed = entropy();
      CAPTURE(samples[i].name);
      CAPTURE(spread);
      CAPTURE(seed);
      Errors errors = runSample(samples[i], kSampleEntries[i], {.spread = spread}, seed);
      CHECK(errors.relative < 6e-3);
      CHECK(errors.lse < 1e-4);
      CHECK(errors.reruns <= errors.tiles);
    }
  }
}

TEST_CASE("tiles whose maximum grows late run again and are counted, with LSE and without it") {
  std::random_device entropy;
  std::vector<test::SamplePlan> samples = test::samplePlans();
  uint64_t reruns = 0;
  for (size_t i = 0; i < samples.size(); ++i) {
    const AttentionSpec &spec = samples[i].plan.spec;
    if (!spec.frozen_max && !spec.mma_sums)
      continue;
    for (const Call &call :
         {Call{.lse = false}, Call{.late = 70, .lse = false}, Call{.late = 130}}) {
      uint64_t seed = entropy();
      CAPTURE(samples[i].name);
      CAPTURE(call.late);
      CAPTURE(seed);
      Errors errors = runSample(samples[i], kSampleEntries[i], call, seed);
      CHECK(errors.relative < 6e-3);
      CHECK(errors.lse < 2e-3); // float32 of logits up to 1,000
      if (!spec.frozen_max)
        CHECK(errors.reruns == 0);
      else if (spec.anchors == 0) { // the rows of a repetitive head are in other tiles
        CHECK(errors.reruns >= errors.late.size());
        CHECK(errors.reruns <= errors.late.size() + errors.near.size());
      }
      reruns += errors.reruns;
    }
  }
  CHECK(reruns > 0);
}

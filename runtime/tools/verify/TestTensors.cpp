// Random bf16 tensors, fast enough for those of a 720p model: values are drawn
// from a table of normal quantiles, five to one 64-bit random number.
#include "runtime/tools/verify/TestTensors.h"

#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <sys/random.h>
#include <time.h>

namespace calibatt {

uint64_t freshSeed() {
  // Not std::random_device: that of a static libstdc++ takes arc4random where the build machine's
  // glibc has it (2.36), and a copy of the program then runs with no older one.
  uint32_t seed = 0;
  if (getrandom(&seed, sizeof seed, 0) != sizeof seed)
    seed = uint32_t(time(nullptr));
  return seed;
}

std::vector<float> fromBf16(const std::vector<uint16_t> &bits) {
  std::vector<float> values(bits.size());
  for (size_t i = 0; i < bits.size(); ++i)
    values[i] = fromBf16(bits[i]);
  return values;
}

static uint16_t toBf16(float value) {
  uint32_t bits = std::bit_cast<uint32_t>(value);
  return uint16_t((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

static uint64_t nextRandom(uint64_t &state) {
  // splitmix64 (Steele, Lea, Flood, 2014).
  uint64_t z = state += 0x9E3779B97F4A7C15u;
  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
  z = (z ^ z >> 27) * 0x94D049BB133111EBu;
  return z ^ z >> 31;
}

constexpr unsigned kQuantileBits = 12;
using Quantiles = std::array<uint16_t, 1u << kQuantileBits>;

/// Values at the middles of 4096 equal slices of a normal distribution.
static Quantiles normalQuantiles(double deviation) {
  Quantiles table;
  double x = -4.5;
  for (size_t i = 0; i < table.size(); ++i) {
    double wanted = (double(i) + 0.5) / double(table.size());
    // Newton on the distribution function; the next quantile starts from this one.
    for (int step = 0; step < 60; ++step) {
      double delta = (0.5 * std::erfc(-x / std::sqrt(2.0)) - wanted) /
                     (std::exp(-0.5 * x * x) * 0.3989422804014327);
      x -= std::fmax(-0.5, std::fmin(0.5, delta));
      if (std::fabs(delta) < 1e-12)
        break;
    }
    table[i] = toBf16(float(deviation * x));
  }
  return table;
}

static std::vector<uint16_t> drawTensor(size_t elements, double deviation, uint64_t &state) {
  Quantiles table = normalQuantiles(deviation);
  std::vector<uint16_t> values(elements);
  for (size_t i = 0; i < elements;) {
    uint64_t bits = nextRandom(state);
    for (int part = 0; part < 5 && i < elements; ++part, ++i, bits >>= kQuantileBits)
      values[i] = table[bits & (table.size() - 1)];
  }
  return values;
}

TestTensors randomTensors(const TensorShape &shape, double scale, uint64_t seed, double deviation) {
  // The deviation of scale * q.k is scale * sqrt(head_dim) * dev(q) * dev(k).
  double deviationK = 1 / (scale * std::sqrt(double(shape.headDim)));
  uint64_t state = seed;
  TestTensors tensors{shape, {}, {}, {}};
  tensors.q = drawTensor(shape.elements(), deviation, state);
  tensors.k = drawTensor(shape.elements(), deviationK, state);
  tensors.v = drawTensor(shape.elements(), 1, state);
  return tensors;
}

TestOutputs poisonedOutputs(const TensorShape &shape) {
  float nan = std::numeric_limits<float>::quiet_NaN();
  return {std::vector<float>(shape.elements(), nan), std::vector<float>(shape.lseElements(), nan)};
}

} // namespace calibatt

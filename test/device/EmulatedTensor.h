// A bf16 tensor in memory as the emulated kernels read and write it.
#pragma once

#include "Emulator.h"
#include "runtime/format/LaunchParams.h"

#include <cstring>
#include <random>
#include <vector>

namespace calibatt::test {

inline uint16_t toBf16(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return uint16_t((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

inline double fromBf16(uint16_t value) {
  uint32_t bits = uint32_t(value) << 16;
  float out;
  std::memcpy(&out, &bits, 4);
  return out;
}

/// A bf16 tensor [batch, tokens, heads, dim] in memory: heads are strided, as a
/// model's projection leaves them; two more tokens behind the end stay NaN.
struct Tensor {
  uint32_t batch, heads, tokens, dim;
  std::vector<uint16_t> data;

  Tensor(uint32_t batch, uint32_t heads, uint32_t tokens, uint32_t dim)
      : batch(batch), heads(heads), tokens(tokens), dim(dim),
        data(size_t(batch) * (tokens + 2) * heads * dim, 0x7FFF) {}
  uint16_t &at(uint32_t b, uint32_t h, uint32_t t, uint32_t d) {
    return data[((size_t(b) * (tokens + 2) + t) * heads + h) * dim + d];
  }
  void randomise(std::mt19937_64 &random, float spread) {
    std::normal_distribution<float> normal(0, spread);
    for (uint32_t b = 0; b < batch; ++b)
      for (uint32_t t = 0; t < tokens; ++t)
        for (uint32_t h = 0; h < heads; ++h)
          for (uint32_t d = 0; d < dim; ++d)
            at(b, h, t, d) = toBf16(normal(random));
  }
  TensorMap map(uint32_t boxTokens, uint32_t boxHalves) {
    uint64_t row = uint64_t(heads) * dim * 2;
    return emulator::encode({data.data(),
                             {64, tokens, dim / 64, heads, batch},
                             {row, 128, uint64_t(dim) * 2, row * (tokens + 2)},
                             {64, boxTokens, boxHalves, 1, 1}});
  }
};

} // namespace calibatt::test

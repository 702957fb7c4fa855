// Block energies by a streaming softmax: per query and key block a maximum and a
// sum relative to it, put together when the row's own maximum and sum are known.
#include "calib_profiles/Energy.h"

#include <algorithm>
#include <cassert>
#include <cmath>

namespace calibatt {

KeyBlocks::KeyBlocks(const HeadInput &input)
    : tokens(input.tokens), headDim(input.headDim),
      numBlocks(uint32_t((input.tokens + kBlock - 1) / kBlock)), scale(input.scale),
      data(size_t(numBlocks) * headDim * kBlock) {
  assert(input.k.size() == tokens * headDim);
  for (uint64_t token = 0; token < tokens; ++token)
    for (uint32_t d = 0; d < headDim; ++d)
      data[((token / kBlock) * headDim + d) * kBlock + token % kBlock] =
          input.k[token * headDim + d];
}

uint32_t KeyBlocks::keys(uint32_t b) const {
  return uint32_t(std::min<uint64_t>(kBlock, tokens - uint64_t(b) * kBlock));
}

void KeyBlocks::logits(const float *query, uint32_t b, double *logits) const {
  double sums[kBlock] = {};
  const double *column = data.data() + size_t(b) * headDim * kBlock;
  for (uint32_t d = 0; d < headDim; ++d, column += kBlock) {
    const double q = query[d];
    for (uint32_t j = 0; j < kBlock; ++j)
      sums[j] += q * column[j];
  }
  for (uint32_t j = 0; j < kBlock; ++j)
    logits[j] = sums[j] * scale;
}

BlockEnergies blockEnergies(const HeadInput &input, const KeyBlocks &keys) {
  const uint32_t blocks = keys.blocks();
  BlockEnergies result;
  result.blocks = blocks;
  result.energies.resize(size_t(blocks) * blocks);
  result.lse.resize(input.tokens);
  result.rowMax.resize(input.tokens);

  std::vector<double> maxima(blocks), sums(blocks), energies(blocks);
  double logits[KeyBlocks::kBlock];
  for (uint32_t r = 0; r < blocks; ++r) {
    const uint64_t first = uint64_t(r) * KeyBlocks::kBlock;
    const uint32_t queries = keys.keys(r);
    std::fill(energies.begin(), energies.end(), 0.0);
    for (uint64_t token = first; token < first + queries; ++token) {
      for (uint32_t c = 0; c < blocks; ++c) {
        keys.logits(input.q.data() + token * input.headDim, c, logits);
        const uint32_t count = keys.keys(c);
        const double max = *std::max_element(logits, logits + count);
        double sum = 0;
        for (uint32_t j = 0; j < count; ++j)
          sum += std::exp(logits[j] - max);
        maxima[c] = max;
        sums[c] = sum;
      }
      const double max = *std::max_element(maxima.begin(), maxima.end());
      double total = 0;
      for (uint32_t c = 0; c < blocks; ++c)
        total += sums[c] *= std::exp(maxima[c] - max);
      for (uint32_t c = 0; c < blocks; ++c)
        energies[c] += sums[c] / total;
      result.lse[token] = max + std::log(total);
      result.rowMax[token] = float(max);
    }
    for (uint32_t c = 0; c < blocks; ++c)
      result.energies[size_t(r) * blocks + c] = float(energies[c] / queries);
  }
  return result;
}

} // namespace calibatt

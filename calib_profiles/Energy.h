// How much attention each 128x128 block carries, from Q and K of one head.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace calibatt {

/// Q and K of one head, [tokens, headDim] row-major; not owned.
struct HeadInput {
  std::span<const float> q, k;
  uint64_t tokens = 0;
  uint32_t headDim = 0;
  double scale = 0; ///< of the logits
};

/// What one pass over the attention matrix of a head leaves.
struct BlockEnergies {
  uint32_t blocks = 0;
  std::vector<float> energies; ///< [blocks, blocks]; a row sums to 1
  std::vector<double> lse;     ///< [tokens] log of the sum of exp(logit), nats
  std::vector<float> rowMax;   ///< [tokens] largest scaled logit, nats
};

/// K in float64, transposed block by block, so that logits of a key block are
/// sums of contiguous rows.
class KeyBlocks {
public:
  static constexpr uint32_t kBlock = 128;

  explicit KeyBlocks(const HeadInput &input);

  uint32_t blocks() const { return numBlocks; }
  /// Keys of block b; fewer than 128 in the tail.
  uint32_t keys(uint32_t b) const;
  /// Scaled logits of one query (headDim floats) with all keys of block b;
  /// `logits` has 128 entries, those past keys(b) are meaningless.
  void logits(const float *query, uint32_t b, double *logits) const;

private:
  uint64_t tokens;
  uint32_t headDim, numBlocks;
  double scale;
  std::vector<double> data; // [blocks, headDim, 128]
};

/// E[r, c] = (1 / queries of r) * sum of softmax(scale q k) over the block; the
/// softmax and all sums in float64. Holds 128 x blocks partial sums, never a
/// tokens x tokens matrix.
BlockEnergies blockEnergies(const HeadInput &input, const KeyBlocks &keys);

} // namespace calibatt

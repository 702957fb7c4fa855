// Sizes of the calibration kernels beside energy_sm90.cuh, whose are spec.cuh's. Compiled by
// g++ and by NVRTC.
#pragma once

#include "spec.cuh"

namespace calibatt {

/// What a warp of the cover kernel sorts, the blocks up to a power of two, and the warps of a CTA
/// that have room to: 8 bytes a key.
constexpr int coverKeys(int blocks) {
  int keys = 64;
  while (keys < blocks)
    keys *= 2;
  return keys;
}
constexpr int coverWarps(int blocks) {
  const int fit = kMaxSmemBytes / (8 * coverKeys(blocks));
  return fit < kThreads / 32 ? fit : kThreads / 32;
}
constexpr int coverSmemBytes(int blocks) { return coverWarps(blocks) * coverKeys(blocks) * 8; }

/// The kernel of log-sum-exps alone: stages of K, and its dynamic shared memory.
constexpr int kLseStages = 4;
constexpr int lseSmemBytes(const AttentionSpec &spec) {
  return 1024 + 1024 + tileBytes(spec) * (2 + kLseStages);
}

/// Spatial rows that are copies of anchor rows, in all frames: each has a cosine.
constexpr unsigned followerRows(const AttentionSpec &spec) {
  return spec.anchors == 0 ? 0
                           : unsigned(spec.tokens / (spec.grid_height * spec.grid_width)) *
                                 unsigned(spec.grid_height - spec.anchors);
}
constexpr int repetitionSmemBytes(const AttentionSpec &spec) {
  return coverKeys(int(followerRows(spec))) * 8;
}
/// Whether there are kernels that score repetition.
constexpr bool scoresRepetition(const AttentionSpec &spec) {
  return followerRows(spec) > 0 && repetitionSmemBytes(spec) <= kMaxSmemBytes;
}

} // namespace calibatt

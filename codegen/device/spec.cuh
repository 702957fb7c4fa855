// What one attention kernel is specialised for. Compiled by g++ and by NVRTC,
// so that the compiler, the kernel's static_assert and the tests share one
// isValid() and one smemBytes(). No includes but one that has none.
#pragma once

#include "runtime/format/AnchorLayout.h"

namespace calibatt {

/// Compile-time facts of a kernel; a structural type, used as a template argument.
struct AttentionSpec {
  int head_dim = 128;       ///< 64 or 128
  int tokens = 0;           ///< sequence length, >= 1
  float scale = 0;          ///< softmax scale on q.k, e.g. 1/sqrt(head_dim)
  int grid_height = 0;      ///< spatial rows a frame; these three are 0 in a kernel without
  int grid_width = 0;       ///< repetitive heads: tokens a spatial row,
  int anchors = 0;          ///< anchor rows a frame
  int stages = 2;           ///< shared-memory stages of K and of V, 1..3
  bool ping_pong = true;    ///< the two consumer warpgroups take turns at the tensor cores
  bool lazy_rescale = true; ///< rescale O only where a new row maximum shows in the result
  bool persistent = true;   ///< a CTA walks a list of tiles; the next Q loads under the epilogue
  bool frozen_max = true;   ///< softmax refers to the first block's maximum; bad tiles run again
  bool mma_sums = true;     ///< sums of weights by the tensor cores: V has a column of ones
  bool watchdog = false;    ///< trap instead of hanging when a wait never ends (debug)
  bool lse_sums = true;     ///< with mma_sums, add up unrounded weights too; a kernel's own choice

  constexpr bool operator==(const AttentionSpec &) const = default;
};

constexpr int kTileRows = 128;        ///< query rows a CTA, 64 a consumer warpgroup
constexpr int kTileKeys = 128;        ///< keys a step
constexpr int kThreads = 384;         ///< one producer and two consumer warpgroups
constexpr int kMaxSmemBytes = 232448; ///< opt-in limit of sm_90

/// Bytes of one 128 x head_dim bf16 tile.
constexpr int tileBytes(const AttentionSpec &spec) { return kTileRows * spec.head_dim * 2; }

/// Tiles of Q in shared memory: two where the next one loads before the last is stored.
constexpr int queryBuffers(const AttentionSpec &spec) { return spec.persistent ? 2 : 1; }

/// Bytes of the columns of ones behind a stage of V: a whole 64-column half, as the descriptor of V
/// counts it, of which P V reads the first eight columns.
constexpr int onesBytes(const AttentionSpec &spec) { return spec.mma_sums ? kTileKeys * 128 : 0; }

/// Dynamic shared memory of a kernel: alignment slack, barriers, Q, K and V stages.
constexpr int smemBytes(const AttentionSpec &spec) {
  return 1024 + 1024 + tileBytes(spec) * (queryBuffers(spec) + 2 * spec.stages) +
         onesBytes(spec) * spec.stages;
}

/// The same without what only CTAs with lists of tiles can do: unrolled code has its stages and
/// parities as constants, so it begins anew with every tile.
constexpr AttentionSpec withoutLists(AttentionSpec spec) {
  spec.persistent = spec.frozen_max = spec.mma_sums = false;
  return spec;
}

/// The anchors of the repetitive heads; negative numbers become ones that fit no sequence.
constexpr AnchorGrid anchorGrid(const AttentionSpec &spec) {
  return {unsigned(spec.grid_height), unsigned(spec.grid_width), unsigned(spec.anchors)};
}

constexpr bool isValid(const AttentionSpec &spec) {
  return (spec.head_dim == 64 || spec.head_dim == 128) && spec.tokens >= 1 &&
         spec.tokens <= (1 << 22) && spec.scale > 0 && spec.stages >= 1 && spec.stages <= 3 &&
         smemBytes(spec) <= kMaxSmemBytes && (spec.persistent || !spec.frozen_max) &&
         (spec.anchors == 0 ? spec.grid_height == 0 && spec.grid_width == 0
                            : isValid(anchorGrid(spec), unsigned(spec.tokens)));
}

/// Query or key blocks of a kernel.
constexpr int blockCount(const AttentionSpec &spec) {
  return (spec.tokens + kTileKeys - 1) / kTileKeys;
}

} // namespace calibatt

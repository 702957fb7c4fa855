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
  bool watchdog = false;    ///< trap instead of hanging when a wait never ends (debug)

  constexpr bool operator==(const AttentionSpec &) const = default;
};

constexpr int kTileRows = 128;        ///< query rows a CTA, 64 a consumer warpgroup
constexpr int kTileKeys = 128;        ///< keys a step
constexpr int kThreads = 384;         ///< one producer and two consumer warpgroups
constexpr int kMaxSmemBytes = 232448; ///< opt-in limit of sm_90

/// Bytes of one 128 x head_dim bf16 tile.
constexpr int tileBytes(const AttentionSpec &spec) { return kTileRows * spec.head_dim * 2; }

/// Dynamic shared memory of a kernel: alignment slack, barriers, Q, K and V stages.
constexpr int smemBytes(const AttentionSpec &spec) {
  return 1024 + 1024 + tileBytes(spec) * (1 + 2 * spec.stages);
}

/// The anchors of the repetitive heads; negative numbers become ones that fit no sequence.
constexpr AnchorGrid anchorGrid(const AttentionSpec &spec) {
  return {unsigned(spec.grid_height), unsigned(spec.grid_width), unsigned(spec.anchors)};
}

constexpr bool isValid(const AttentionSpec &spec) {
  return (spec.head_dim == 64 || spec.head_dim == 128) && spec.tokens >= 1 &&
         spec.tokens <= (1 << 22) && spec.scale > 0 && spec.stages >= 1 && spec.stages <= 3 &&
         smemBytes(spec) <= kMaxSmemBytes &&
         (spec.anchors == 0 ? spec.grid_height == 0 && spec.grid_width == 0
                            : isValid(anchorGrid(spec), unsigned(spec.tokens)));
}

/// Query or key blocks of a kernel.
constexpr int blockCount(const AttentionSpec &spec) {
  return (spec.tokens + kTileKeys - 1) / kTileKeys;
}

} // namespace calibatt

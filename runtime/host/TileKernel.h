// The arithmetic of one query tile on the CPU: two small matrix products and an online softmax,
// compiled for several instruction sets and chosen once at run time.
#pragma once

#include "runtime/format/ScheduleLayout.h"

#include <span>

namespace calibatt {

/// Padded leading dimension of a 128-column float matrix: rows of 512 bytes would all meet in the
/// same few cache sets.
constexpr int kTileStride = int(kBlock) + 16;

/// Scratch and state of one query tile; reused from tile to tile by one thread.
struct alignas(64) TileState {
  float q[kBlock * kTileStride];  ///< [row][d], already times scale * log2(e)
  float kt[kBlock * kTileStride]; ///< [d][key]
  float v[kBlock * kTileStride];  ///< [key][d]
  float s[kBlock * kTileStride];  ///< [row][key]: logits, then probabilities
  float o[kBlock * kTileStride];  ///< [row][d], not yet divided by `sum`
  float max[kBlock];              ///< running maximum of each row, in log2 units
  float sum[kBlock];              ///< running sum of exp2(s - max)
};

/// Prepares `o`, `max` and `sum` for the first visit.
void beginTile(TileState &tile, int headDim);
/// One visit: `keys` (1..128) columns of `kt` and rows of `v` are valid, the others have to be
/// zero.
using VisitKeyBlock = void (*)(TileState &tile, int headDim, int keys);

/// The visit, compiled for one instruction set.
struct TileKernel {
  const char *name; ///< "avx512", "avx2" or "baseline"
  VisitKeyBlock visit;
};

/// Those this CPU can run, the fastest first; never empty.
std::span<const TileKernel> tileKernels();

} // namespace calibatt

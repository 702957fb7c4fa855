// How alike the attention of the spatial rows of one head is, from log-sum-exps alone: with
// lse(q) over all keys, <P_a, P_b> = exp(lse(q_a + q_b) - lse(q_a) - lse(q_b)) of two queries, and
// |P_a|^2 = exp(lse(2 q_a) - 2 lse(q_a)).
#pragma once

#include "calibration_spec.cuh"
#include "runtime/format/CalibrationParams.h"
#include "warp_sort.cuh"

namespace calibatt {

template <AttentionSpec S> struct RepetitionScore {
  static constexpr AnchorGrid kGrid = anchorGrid(S);
  static constexpr u32 kFollowers = kGrid.height - kGrid.anchors; ///< rows a frame that are copies
  static constexpr u32 kCosines = followerRows(S);
  static constexpr u32 kKeys = coverKeys(kCosines);

  const float *lse, *pair, *self; ///< [tokens]: of q, of q + q_anchor, of 2 q

  /// Cosine of the attention of follower `index` with its anchor's, over all columns: by a warp.
  CALIBATT_DEVICE double cosine(u32 index) const {
    const u32 frame = index / kFollowers;
    u32 row = index % kFollowers;
    for (u32 i = 0; i < kGrid.anchors; ++i)
      row += anchorRow(kGrid, i) <= row;
    const u32 first = (frame * kGrid.height + row) * kGrid.width;
    const u32 anchor = anchorToken(kGrid, first);
    double cross = 0, anchorSquare = 0, square = 0;
    for (u32 column = threadIdx.x % 32; column < kGrid.width; column += 32) {
      const u32 t = first + column, a = anchor + column;
      const double ofRow = lse[t], ofAnchor = lse[a];
      cross += exp(pair[t] - ofRow - ofAnchor);
      square += exp(self[t] - 2 * ofRow);
      anchorSquare += exp(self[a] - 2 * ofAnchor);
    }
    for (int mask = 16; mask > 0; mask /= 2) {
      cross += __shfl_xor_sync(~0u, cross, mask);
      square += __shfl_xor_sync(~0u, square, mask);
      anchorSquare += __shfl_xor_sync(~0u, anchorSquare, mask);
    }
    return cross / sqrt(square * anchorSquare);
  }

  /// The median of all cosines, the mean of the middle two where their number is even; by a CTA,
  /// `keys` being kKeys of its shared memory. The answer is the first thread's.
  CALIBATT_DEVICE double median(u64 *keys) const {
    const u32 warp = threadIdx.x / 32;
    for (u32 i = warp; i < kKeys; i += kThreads / 32) {
      // Cosines are not negative: ordered as their bits.
      const u64 key = i < kCosines ? u64(__double_as_longlong(cosine(i))) : 0;
      if (threadIdx.x % 32 == 0)
        keys[i] = key;
    }
    __syncthreads();
    if (warp != 0)
      return 0;
    sortDescending<kKeys>(keys);
    const double middle = __longlong_as_double(keys[kCosines / 2]);
    return kCosines % 2 ? middle : (middle + __longlong_as_double(keys[(kCosines - 1) / 2])) / 2;
  }
};

} // namespace calibatt

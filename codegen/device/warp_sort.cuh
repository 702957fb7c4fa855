// Sorting in shared memory by one warp.
#pragma once

#include "types.cuh"

namespace calibatt {

/// Keys, a power of two and at least 64 of them, into descending order: bitonic.
template <u32 Keys> CALIBATT_DEVICE void sortDescending(u64 *keys) {
  const u32 lane = threadIdx.x % 32;
#pragma unroll 1
  for (u32 size = 2; size <= Keys; size *= 2) {
#pragma unroll 1
    for (u32 step = size / 2; step > 0; step /= 2) {
#pragma unroll 4
      for (u32 i = lane; i < Keys / 2; i += 32) {
        const u32 low = 2 * i - (i & (step - 1)), high = low + step;
        const u64 a = keys[low], b = keys[high];
        if ((a < b) == ((low & size) == 0)) {
          keys[low] = b;
          keys[high] = a;
        }
      }
      __syncwarp();
    }
  }
}

} // namespace calibatt

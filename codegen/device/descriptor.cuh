// Shared-memory descriptors of wgmma for 128-byte swizzled tiles as TMA writes
// them: 64-column halves, rows of 128 bytes, 8-row groups of 1024, bases 1024-aligned.
#pragma once

#include "types.cuh"

namespace calibatt {

/// Descriptor of a K-major tile (Q, K): rows are the M or N dimension. Add 2 for
/// the next 16 columns within a 64-column half.
CALIBATT_DEVICE u64 descriptorKMajor(u32 smem) { return 0x4000004000010000ull + (smem >> 4); }

/// Descriptor of an MN-major tile (V read transposed): rows are the K dimension.
/// Add 128 for the next 16 rows. `half_bytes` is the distance of the two halves.
template <int HalfBytes> CALIBATT_DEVICE u64 descriptorMnMajor(u32 smem) {
  return 0x4000004000000000ull + (u64(HalfBytes >> 4) << 16) + (smem >> 4);
}

} // namespace calibatt

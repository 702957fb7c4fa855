// The minimum cover of a row of block energies, by one warp: the energies are sorted,
// largest first and ties by column, and cut at the first prefix that reaches epsilon times
// the row's sum. Sums are float64, one after another in a fixed order, so that the answer
// is that of the definition, bit by bit (calib_profiles/Selection.h).
#pragma once

#include "calibration_spec.cuh"
#include "warp_sort.cuh"

namespace calibatt {

template <u32 Blocks> struct RowCover {
  static constexpr u32 kKeys = coverKeys(Blocks);

  u64 *keys; ///< kKeys of them in shared memory, this warp's own

  /// Keeps bit c of `cover` where column c is of the cover.
  CALIBATT_DEVICE void run(const float *energies, double epsilon, unsigned char *cover) const {
    const u32 lane = threadIdx.x % 32;
    for (u32 c = lane; c < kKeys; c += 32)
      keys[c] = c < Blocks ? key(energies[c], c) : 0;
    __syncwarp();
    double total = 0;
    if (lane == 0)
      for (u32 c = 0; c < Blocks; ++c)
        total += energyOf(keys[c]);
    __syncwarp();
    sortDescending<kKeys>(keys);
    u64 last = 0;
    if (lane == 0) {
      const double target = epsilon * total;
      double prefix = 0;
      for (u32 i = 0; i < Blocks; ++i) {
        last = keys[i];
        prefix += energyOf(last);
        if (prefix >= target)
          break;
      }
      keys[0] = last;
    }
    __syncwarp();
    last = keys[0];
    for (u32 byte = lane; byte < (Blocks + 7) / 8; byte += 32) {
      u32 bits = 0;
      for (u32 bit = 0; bit < 8; ++bit) {
        const u32 c = 8 * byte + bit;
        if (c < Blocks && key(energies[c], c) >= last)
          bits |= 1u << bit;
      }
      cover[byte] = static_cast<unsigned char>(bits);
    }
    __syncwarp();
  }

private:
  /// Larger keys come first: floats that are not negative are ordered as their bits.
  CALIBATT_DEVICE static u64 key(float energy, u32 column) {
    return u64(__float_as_uint(energy)) << 32 | u32(~column);
  }
  CALIBATT_DEVICE static double energyOf(u64 key) { return __uint_as_float(u32(key >> 32)); }
};

} // namespace calibatt

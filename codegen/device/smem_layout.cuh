// Where a CTA keeps its tiles and barriers in dynamic shared memory.
//
//   0      barriers (1 KiB)
//   1 KiB  Q                      one tile
//          K stage 0 .. S-1       S tiles
//          V stage 0 .. S-1       S tiles
//
// A tile is head_dim / 64 halves of 128 rows x 128 bytes, written by TMA with
// the 128-byte swizzle: chunk c (16 bytes) of row r lies at r*128 + ((c ^ (r & 7)) << 4).
#pragma once

#include "spec.cuh"
#include "types.cuh"

namespace calibatt {

template <AttentionSpec S> struct SmemLayout {
  static constexpr u32 kTile = tileBytes(S);
  static constexpr u32 kHalf = kTileRows * 128;
  u32 base; ///< shared address, 1024-aligned

  CALIBATT_DEVICE static SmemLayout fromDynamic(void *dynamic) {
    return {(u32(__cvta_generic_to_shared(dynamic)) + 1023u) & ~1023u};
  }

  CALIBATT_DEVICE u32 q() const { return base + 1024; }
  CALIBATT_DEVICE u32 k(u32 stage) const { return q() + kTile * (1 + stage); }
  CALIBATT_DEVICE u32 v(u32 stage) const { return q() + kTile * (1 + S.stages + stage); }

  CALIBATT_DEVICE u32 qFull() const { return base; }
  CALIBATT_DEVICE u32 kFull(u32 stage) const { return base + 8 + 32 * stage; }
  CALIBATT_DEVICE u32 kEmpty(u32 stage) const { return base + 16 + 32 * stage; }
  CALIBATT_DEVICE u32 vFull(u32 stage) const { return base + 24 + 32 * stage; }
  CALIBATT_DEVICE u32 vEmpty(u32 stage) const { return base + 32 + 32 * stage; }
};

} // namespace calibatt

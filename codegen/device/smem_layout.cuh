// Where a CTA keeps its tiles and barriers in dynamic shared memory.
//
//   0      barriers (1 KiB); of a persistent kernel also tile slots and flags
//   1 KiB  Q                      one tile, of a persistent kernel two
//          K stage 0 .. S-1       S tiles
//          V stage 0 .. S-1       S tiles, each with a half of ones behind it where sums need it
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

  CALIBATT_DEVICE u32 q(u32 buffer = 0) const { return base + 1024 + kTile * buffer; }
  CALIBATT_DEVICE u32 k(u32 stage) const { return q(queryBuffers(S) + stage); }
  CALIBATT_DEVICE u32 v(u32 stage) const {
    return q(queryBuffers(S) + S.stages + stage) + u32(onesBytes(S)) * stage;
  }

  CALIBATT_DEVICE u32 qFull(u32 buffer = 0) const { return base + 16 * buffer; }
  CALIBATT_DEVICE u32 qEmpty(u32 buffer) const { return base + 8 + 16 * buffer; }
  CALIBATT_DEVICE u32 kFull(u32 stage) const { return base + 32 + 32 * stage; }
  CALIBATT_DEVICE u32 kEmpty(u32 stage) const { return base + 40 + 32 * stage; }
  CALIBATT_DEVICE u32 vFull(u32 stage) const { return base + 48 + 32 * stage; }
  CALIBATT_DEVICE u32 vEmpty(u32 stage) const { return base + 56 + 32 * stage; }
  /// All consumer warps have seen the end of the list.
  CALIBATT_DEVICE u32 listDone() const { return base + 128; }
  /// What the tile in a Q buffer is: 16 bytes (tile_list.cuh).
  CALIBATT_DEVICE u32 tileSlot(u32 buffer) const { return base + 144 + 16 * buffer; }
  /// A byte a tile of the list: not zero where it has to run again.
  static constexpr u32 kFlags = 1024 - 192;
  CALIBATT_DEVICE u32 flag(u32 tile) const {
    return base + 192 + (tile < kFlags ? tile : kFlags - 1);
  }
};

} // namespace calibatt

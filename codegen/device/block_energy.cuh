// From the sums of weights that EnergySoftmax left to the energies of a query
// block: E[c] = (1 / rows) * sum over rows of 2^(log2 sum of the block - log2 sum of the row).
#pragma once

#include "energy_softmax.cuh"
#include "epilogue.cuh"
#include "runtime/format/CalibrationParams.h"

namespace calibatt {

/// The slot of `sums` that this CTA owns while it runs. Not its SM: a CTA may be moved.
CALIBATT_DEVICE u32 claimSlot(const EnergyParams &params) {
  u32 slot = ptx::smId() % params.slot_count;
  while (!ptx::tryClaim(params.slots + slot))
    slot = slot + 1 == params.slot_count ? 0 : slot + 1;
  return slot;
}

template <AttentionSpec S, bool Weighted> struct BlockEnergies {
  using Softmax = EnergySoftmax<S, Weighted>;
  using EnergyConsumer = Consumer<S, Softmax>;
  static constexpr u32 kBlocks = blockCount(S);
  static constexpr u32 kColumns = 8; ///< of a warp at a time

  const EnergyParams &params;
  SmemLayout<S> smem;
  u32 row, head, batch; ///< the query tile
  u32 slot;

  /// Shared addresses behind the barriers: the slot, and 128 row sums.
  CALIBATT_DEVICE static u32 slotAddress(const SmemLayout<S> &smem) { return smem.base + 496; }
  CALIBATT_DEVICE u32 rowSums() const { return smem.base + 512; }

  CALIBATT_DEVICE float *scratch() const {
    return params.sums + u64(slot) * (kBlocks * u32(kTileRows));
  }
  CALIBATT_DEVICE u64 headOfCall() const { return u64(batch) * params.heads + head; }

  /// Where the softmax of a warpgroup leaves its sums.
  CALIBATT_DEVICE void begin(EnergyConsumer &c) const {
    c.softmax.sums = scratch() + storedRow(c);
    if constexpr (Weighted)
      c.softmax.norms = params.norms + (headOfCall() + 1) * (kBlocks * u32(kTileKeys)) - kTileKeys +
                        2 * (threadIdx.x % 4);
  }

  /// The energies of the tile, by both consumer warpgroups, after their last visit.
  CALIBATT_DEVICE void finish(const EnergyConsumer &c) const {
    publishRows(c);
    ptx::barrierSync(kBarrier, 256);
    float *energies = params.energies + (headOfCall() * kBlocks + row) * kBlocks;
    const u32 warp = (threadIdx.x - 128) / 32, lane = threadIdx.x % 32;
    const float4 rows = ptx::loadSharedFloat4(rowSums() + 16 * lane);
    constexpr u32 kLastRows = S.tokens - (kBlocks - 1) * kTileRows;
    const float weight = row + 1 == kBlocks ? 1.0f / float(kLastRows) : 1.0f / float(kTileRows);
#pragma unroll 1
    for (u32 first = kColumns * warp; first < kBlocks; first += 8 * kColumns) {
      float4 sums[kColumns];
#pragma unroll
      for (u32 i = 0; i < kColumns; ++i) {
        const u32 column = first + i < kBlocks ? first + i : kBlocks - 1;
        // Visits go down.
        sums[i] = ptx::loadGlobal4(scratch() + (kBlocks - 1 - column) * kTileRows + 4 * lane);
      }
      float mine = 0;
#pragma unroll
      for (u32 i = 0; i < kColumns; ++i) {
        float energy = ptx::exp2Approx(sums[i].x - rows.x) + ptx::exp2Approx(sums[i].y - rows.y) +
                       ptx::exp2Approx(sums[i].z - rows.z) + ptx::exp2Approx(sums[i].w - rows.w);
#pragma unroll
        for (int mask = 16; mask > 0; mask /= 2)
          energy += __shfl_xor_sync(~0u, energy, mask);
        mine = lane == i ? energy : mine;
      }
      if (lane < kColumns && first + lane < kBlocks)
        ptx::storeGlobal(energies + first + lane, mine * weight);
    }
    ptx::barrierSync(kBarrier, 256);
    if (threadIdx.x == 128)
      ptx::releaseClaim(params.slots + slot);
  }

private:
  static constexpr u32 kBarrier = 5; ///< named barrier of both consumer warpgroups

  /// Row of the tile whose sums this thread stores.
  CALIBATT_DEVICE static u32 storedRow(const EnergyConsumer &c) {
    return c.warpgroup * 64 + fragmentRow() + 8 * Softmax::storedRow();
  }

  /// log2 of each row's sum of weights, infinite where there is no such row: it weighs nothing.
  CALIBATT_DEVICE void publishRows(const EnergyConsumer &c) const {
    const int i = Softmax::storedRow();
    const u32 r = storedRow(c), token = row * kTileRows + r;
    const float log = (i ? c.softmax.maxScaled[1] : c.softmax.maxScaled[0]) +
                      ptx::log2Approx(i ? c.softmax.rowSum[1] : c.softmax.rowSum[0]);
    if (!Softmax::stores())
      return;
    ptx::storeSharedFloat(rowSums() + 4 * r, token < S.tokens ? log : c.softmax.infinity());
    if (params.row_max != nullptr && token < S.tokens)
      params.row_max[headOfCall() * S.tokens + token] =
          (i ? c.softmax.highest[1] : c.softmax.highest[0]) * S.scale;
  }
};

} // namespace calibatt

// The small kernels of a calibration, beside energy_sm90.cuh: covers of energies and
// norms of values.
#pragma once

#include "cover.cuh"
#include "ptx/convert.cuh"
#include "repetition.cuh"
#include "runtime/format/CalibrationParams.h"

namespace calibatt {

/// A warp a row, rows dealt out over the grid.
template <AttentionSpec S> CALIBATT_DEVICE void coverRows(const CoverParams &params) {
  constexpr u32 kBlocks = blockCount(S), kWarps = coverWarps(kBlocks);
  extern __shared__ unsigned char dynamicSmem[];
  const u32 warp = threadIdx.x / 32;
  if (warp >= kWarps)
    return;
  const RowCover<kBlocks> cover{reinterpret_cast<u64 *>(dynamicSmem) + warp * coverKeys(kBlocks)};
  for (u32 row = blockIdx.x * kWarps + warp; row < params.rows; row += gridDim.x * kWarps)
    cover.run(params.energies + u64(row) * kBlocks, params.epsilon,
              params.cover + u64(row) * ((kBlocks + 7) / 8));
}

/// A CTA a head.
template <AttentionSpec S> CALIBATT_DEVICE void scoreRepetition(const RepetitionParams &params) {
  extern __shared__ unsigned char dynamicSmem[];
  const u32 head = blockIdx.x;
  const RepetitionScore<S> score{params.lse + head / params.heads * params.lse_batch_stride +
                                     head % params.heads * params.lse_head_stride,
                                 params.pair + u64(head) * S.tokens,
                                 params.self + u64(head) * S.tokens};
  const double median = score.median(reinterpret_cast<u64 *>(dynamicSmem));
  if (threadIdx.x == 0)
    params.scores[head] = float(median);
}

/// head_dim / 8 lanes a key, 16 bytes each.
template <AttentionSpec S> CALIBATT_DEVICE void valueNorms(const NormParams &params) {
  constexpr u32 kLanes = S.head_dim / 8, kGroups = kThreads / kLanes;
  constexpr u32 kPadded = blockCount(S) * kTileKeys;
  const u32 lane = threadIdx.x % kLanes;
  const u64 count = u64(params.batch) * params.heads * kPadded;
  // All lanes of a warp take as many turns, for the shuffles.
  for (u64 first = u64(blockIdx.x) * kGroups; first < count; first += u64(gridDim.x) * kGroups) {
    const u64 i = first + threadIdx.x / kLanes;
    const u32 headOfCall = u32(i / kPadded), token = u32(i % kPadded);
    float sum = 0;
    if (i < count && token < S.tokens) {
      const uint4 v = ptx::loadGlobal16(params.v + headOfCall / params.heads * params.v_strides[0] +
                                        headOfCall % params.heads * params.v_strides[1] +
                                        token * params.v_strides[2] + 16 * lane);
      const u32 words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
      for (u32 word : words) {
        const float low = __uint_as_float(word << 16), high = __uint_as_float(word & 0xFFFF0000u);
        sum = fmaf(low, low, fmaf(high, high, sum));
      }
    }
#pragma unroll
    for (u32 mask = kLanes / 2; mask > 0; mask /= 2)
      sum += __shfl_xor_sync(~0u, sum, int(mask));
    if (i < count && lane == 0)
      params.norms[i] = sqrtf(sum);
  }
}

} // namespace calibatt

// The softmax that leaves the sum of weights of every key block, for each query row,
// in memory: what block energies are made of (block_energy.cuh).
#pragma once

#include "online_softmax.cuh"
#include "ptx/global.cuh"

namespace calibatt {

/// Weighted: each weight times the norm |v| of its value.
template <AttentionSpec S, bool Weighted> struct EnergySoftmax : OnlineSoftmax<S> {
  using Base = OnlineSoftmax<S>;

  float *sums;                   ///< this thread's row of the next visit (sumRow)
  const float *norms;            ///< |v| of this thread's first column of the next block
  float highest[kRowsPerThread]; ///< maximum of the row, raw logits

  CALIBATT_DEVICE void first(float (&s)[64]) {
    Base::first(s);
#pragma unroll
    for (int i = 0; i < kRowsPerThread; ++i)
      highest[i] = Base::blockBest[i];
    record(s);
  }

  CALIBATT_DEVICE bool next(float (&s)[64]) {
    const bool grew = Base::next(s);
#pragma unroll
    for (int i = 0; i < kRowsPerThread; ++i)
      highest[i] = fmaxf(highest[i], Base::blockBest[i]);
    record(s);
    return grew;
  }

  /// Of a thread's two rows the one it stores: even lanes the upper, odd ones the lower.
  CALIBATT_DEVICE static int storedRow() { return threadIdx.x & 1; }
  CALIBATT_DEVICE static bool stores() { return threadIdx.x % 4 < 2; }

private:
  /// log2 of the block's sum, so that it needs no reference beside it: a row's
  /// reference may move later.
  CALIBATT_DEVICE void record(const float (&s)[64]) {
    float sum[kRowsPerThread];
    blockSums(s, sum);
    // Two lanes add up the upper row, two the lower one.
    const bool lower = storedRow() != 0;
    float mine = lower ? sum[1] : sum[0];
    mine += __shfl_xor_sync(~0u, lower ? sum[0] : sum[1], 1);
    mine += __shfl_xor_sync(~0u, mine, 2);
    const float log = ptx::log2Approx(mine) + (lower ? Base::maxScaled[1] : Base::maxScaled[0]);
    if (stores())
      ptx::storeGlobal(sums, log);
    sums += kTileRows;
  }

  CALIBATT_DEVICE void blockSums(const float (&s)[64], float (&sum)[kRowsPerThread]) {
    if constexpr (!Weighted) {
      sum[0] = Base::blockSum[0];
      sum[1] = Base::blockSum[1];
    } else {
      sum[0] = sum[1] = 0;
#pragma unroll
      for (int j = 0; j < 16; ++j) {
        const float2 norm = ptx::loadConstant2(norms + 8 * j);
#pragma unroll
        for (int i = 0; i < kRowsPerThread; ++i)
          sum[i] = fmaf(s[4 * j + 2 * i], norm.x, fmaf(s[4 * j + 2 * i + 1], norm.y, sum[i]));
      }
      norms -= kTileKeys;
    }
  }
};

} // namespace calibatt

// Log-sum-exps alone, for sm_90a: S = (q + q') K^T and its softmax's sums, no V and no O. q' is the
// query of the anchor row that stands for q's (AnchorLayout.h), or there is none. Both
// products chain into one accumulator, so that the sum of two queries is never rounded.
//
//   warpgroup 0           one thread: TMA loads of Q and K
//   warpgroups 1, 2       64 query rows each: wgmma, softmax
#pragma once

#include "calibration_spec.cuh"
#include "kernels/attention_sm90.cuh"
#include "runtime/format/CalibrationParams.h"

namespace calibatt {

/// Barriers, then Q, Q' and the stages of K, each a tile as SmemLayout has it.
template <AttentionSpec S> struct LseLayout {
  static constexpr u32 kTile = tileBytes(S), kStages = kLseStages;
  u32 base; ///< shared address, 1024-aligned

  CALIBATT_DEVICE u32 q() const { return base + 1024; }
  CALIBATT_DEVICE u32 anchors() const { return q() + kTile; }
  CALIBATT_DEVICE u32 k(u32 stage) const { return q() + kTile * (2 + stage); }
  CALIBATT_DEVICE u32 qFull() const { return base; }
  CALIBATT_DEVICE u32 kFull(u32 stage) const { return base + 8 + 16 * stage; }
  CALIBATT_DEVICE u32 kEmpty(u32 stage) const { return base + 16 + 16 * stage; }
};

template <AttentionSpec S> struct LseConsumer {
  static constexpr u32 kBlocks = blockCount(S), kStages = LseLayout<S>::kStages;
  static constexpr u32 kHalf = SmemLayout<S>::kHalf;

  LseLayout<S> smem;
  u32 warpgroup; ///< 0 or 1, uniform
  float s[64];
  OnlineSoftmax<S> softmax;

  /// All key blocks, from the last, which may be a tail, to the first. One warpgroup's softmax runs
  /// under the other's products.
  CALIBATT_DEVICE void run() {
    ptx::mbarrierWait<S.watchdog>(smem.qFull(), 0);
    products(0);
    if constexpr (S.tokens % kTileKeys != 0)
      maskTail();
    softmax.first(s);
#pragma unroll 1
    for (u32 visit = 1; visit < kBlocks; ++visit) {
      products(visit);
      softmax.next(s);
    }
    softmax.finish(s); // S stands for O, of which there is none
  }

private:
  /// S = Q K^T + Q' K^T of a visit, whose K is free then.
  CALIBATT_DEVICE void products(u32 visit) {
    const u32 stage = visit % kStages;
    ptx::mbarrierWait<S.watchdog>(smem.kFull(stage), (visit / kStages) & 1);
    const u64 b = descriptorKMajor(smem.k(stage));
    ptx::wgmmaFence();
    product(descriptorKMajor(smem.q() + warpgroup * 8192), b, false);
    if constexpr (S.anchors != 0)
      product(descriptorKMajor(smem.anchors() + warpgroup * 8192), b, true);
    ptx::wgmmaCommit();
    ptx::wgmmaWait<0>();
    ptx::wgmmaPin(s);
    if (threadIdx.x % 32 == 0)
      ptx::mbarrierArrive(smem.kEmpty(stage));
  }

  CALIBATT_DEVICE void product(u64 a, u64 b, bool accumulate) {
#pragma unroll
    for (int k = 0; k < S.head_dim / 16; ++k) {
      const u64 advance = u64(k / 4) * (kHalf >> 4) + u64(k % 4) * 2;
      ptx::wgmmaSS(s, a + advance, b + advance, accumulate || k > 0);
    }
  }

  CALIBATT_DEVICE void maskTail() {
    const int column = 2 * (threadIdx.x % 4);
#pragma unroll
    for (int j = 0; j < 16; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e)
        if (8 * j + column + e % 2 >= S.tokens % kTileKeys)
          s[4 * j + e] = -OnlineSoftmax<S>::infinity();
  }
};

/// The warpgroup's 64 rows of Q', in the layout of a TMA load; rows past the end are zeros.
template <AttentionSpec S>
CALIBATT_DEVICE void gatherAnchors(const LseLayout<S> &smem, u32 warpgroup, const LseParams &params,
                                   u32 row, u32 head, u32 batch) {
  constexpr u32 kChunks = S.head_dim / 8;
  const LaunchParams &a = params.attention;
  const unsigned char *q = a.q_data + batch * a.q_strides[0] + head * a.q_strides[1];
#pragma unroll 4
  for (u32 i = threadIdx.x % 128; i < 64 * kChunks; i += 128) {
    const u32 r = i / kChunks, chunk = i % kChunks;
    const u32 token = row * kTileRows + warpgroup * 64 + r;
    uint4 value = {0, 0, 0, 0};
    if (token < S.tokens)
      value =
          ptx::loadGlobal16(q + anchorToken(anchorGrid(S), token) * a.q_strides[2] + chunk * 16);
    ptx::storeShared16(smem.anchors() + warpgroup * 8192 + (chunk / 8) * SmemLayout<S>::kHalf +
                           r * 128 + (((chunk % 8) ^ (r & 7)) << 4),
                       value);
  }
  ptx::fenceProxyAsync();
  ptx::barrierSync(3 + warpgroup, 128);
}

template <AttentionSpec S>
CALIBATT_DEVICE void produceLse(const LseLayout<S> &smem, const LaunchParams &params, u32 row,
                                u32 head, u32 batch) {
  constexpr u32 kBlocks = blockCount(S), kStages = LseLayout<S>::kStages;
  ptx::mbarrierArriveExpectTx(smem.qFull(), LseLayout<S>::kTile);
  ptx::tmaLoad(smem.q(), &params.q, smem.qFull(), row * kTileRows, head, batch, ptx::kEvictFirst);
#pragma unroll 1
  for (u32 visit = 0; visit < kBlocks; ++visit) {
    const u32 stage = visit % kStages;
    ptx::mbarrierWait<S.watchdog>(smem.kEmpty(stage), ((visit / kStages) & 1) ^ 1);
    ptx::mbarrierArriveExpectTx(smem.kFull(stage), LseLayout<S>::kTile);
    ptx::tmaLoad(smem.k(stage), &params.k, smem.kFull(stage), (kBlocks - 1 - visit) * kTileKeys,
                 head, batch, ptx::kEvictLast);
  }
}

template <AttentionSpec S> CALIBATT_DEVICE void lseSm90(const LseParams &params) {
  static_assert(isValid(S));
  constexpr u32 kBlocks = blockCount(S);
  extern __shared__ unsigned char dynamicSmem[];
  const LseLayout<S> smem{SmemLayout<S>::fromDynamic(dynamicSmem).base};
  const u32 row = blockIdx.x % kBlocks, headOfCall = blockIdx.x / kBlocks;
  const u32 head = headOfCall % params.heads, batch = headOfCall / params.heads;
  if (threadIdx.x == 0) {
    ptx::mbarrierInit(smem.qFull(), 1);
#pragma unroll
    for (u32 stage = 0; stage < LseLayout<S>::kStages; ++stage) {
      ptx::mbarrierInit(smem.kFull(stage), 1);
      ptx::mbarrierInit(smem.kEmpty(stage), 8);
    }
    ptx::fenceMbarrierInit();
  }
  __syncthreads();
  const u32 warpgroup = __shfl_sync(~0u, threadIdx.x / 128, 0);
  if (warpgroup == 0) {
    ptx::registersDown<40>();
    if (threadIdx.x == 0)
      produceLse<S>(smem, params.attention, row, head, batch);
    return;
  }
  ptx::registersUp<232>();
  LseConsumer<S> consumer{smem, warpgroup - 1};
  if constexpr (S.anchors != 0)
    gatherAnchors<S>(smem, consumer.warpgroup, params, row, head, batch);
  consumer.run();
  if (threadIdx.x % 4 != 0)
    return;
#pragma unroll
  for (int i = 0; i < kRowsPerThread; ++i) {
    const u32 token = row * kTileRows + consumer.warpgroup * 64 + fragmentRow() + 8 * i;
    if (token < S.tokens)
      params.lse[u64(headOfCall) * S.tokens + token] = consumer.softmax.logSumExp(i);
  }
}

} // namespace calibatt

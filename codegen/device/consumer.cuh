// The compute side of the pipeline: one warpgroup and its 64 query rows.
//
//   first:  S = Q K0                  softmax
//   step j: S = Q Kj   ||  O += P Vj-1     (both in flight), softmax under O's wgmma
//   last:                  O += P Vn-1
//
// Until a wgmma has been waited for, neither its accumulator nor the registers
// of P may be touched: that would serialise every wgmma of the kernel.
#pragma once

#include "descriptor.cuh"
#include "frozen_softmax.cuh"
#include "online_softmax.cuh"
#include "ptx/mbarrier.cuh"
#include "ptx/tma.cuh"
#include "ptx/wgmma.cuh"
#include "smem_layout.cuh"

namespace calibatt {

/// The softmax that a spec asks for.
template <AttentionSpec S, bool Frozen = S.frozen_max> struct SoftmaxOf {
  using Type = OnlineSoftmax<S>;
};
template <AttentionSpec S> struct SoftmaxOf<S, true> {
  using Type = FrozenSoftmax<S>;
};

/// Calibration has a softmax of its own (energy_softmax.cuh).
template <AttentionSpec S, class Softmax = typename SoftmaxOf<S>::Type> struct Consumer {
  static constexpr int kSteps16 = S.head_dim / 16; ///< k16 steps of Q K
  static constexpr u32 kHalf = SmemLayout<S>::kHalf;

  SmemLayout<S> smem;
  u32 warpgroup;       ///< 0 or 1, uniform
  bool packed = false; ///< Q is there already: this warpgroup gathered it (anchors.cuh)
  bool holdsQ = false; ///< the last tile's Q buffer is not released yet (tile_list.cuh)
  u32 visits = 0;      ///< since the kernel began
  u32 tileBegin = 0;   ///< visits when the tile began
  u32 tiles = 0;       ///< tiles since the kernel began
  float s[64];
  /// P V of head_dim columns; with mma_sums of eight more, all of them the sum of the weights.
  float o[S.head_dim / 2 + (S.mma_sums ? 4 : 0)];
  u32 p[32];
  Softmax softmax;

  /// Once a kernel: the first turn is the first warpgroup's.
  CALIBATT_DEVICE void begin() {
    if (S.ping_pong && warpgroup == 0)
      ptx::barrierArrive(kTurn, 256);
  }

  /// Shared address of the tile's Q.
  CALIBATT_DEVICE u32 q() const { return smem.q(S.persistent ? tiles & 1 : 0); }

  /// The first visit; Tail where its block is the masked tail of the keys.
  template <bool Tail> CALIBATT_DEVICE void first() {
    if constexpr (S.persistent)
      tileBegin = visits;
    else
      visits = tileBegin = 0;
    const u32 stage = visits % S.stages;
    if (!S.persistent && (S.anchors == 0 || !packed))
      ptx::mbarrierWait<S.watchdog>(smem.qFull(), 0);
    waitFull(smem.kFull(stage), visits);
    ptx::wgmmaFence();
    issueQK(stage);
    ptx::wgmmaCommit();
    ptx::wgmmaWait<0>();
    ptx::wgmmaPin(s);
    release(smem.kEmpty(stage));
    if constexpr (S.persistent)
      releaseQ();
    if constexpr (Tail)
      maskTail();
    softmax.first(s);
    packP();
    ++visits;
  }

  /// Every further visit.
  CALIBATT_DEVICE void step() {
    const u32 stage = visits % S.stages, before = (visits - 1) % S.stages;
    waitFull(smem.kFull(stage), visits);
    if constexpr (S.ping_pong)
      ptx::barrierSync(kTurn + warpgroup, 256);
    ptx::wgmmaFence();
    issueQK(stage);
    ptx::wgmmaCommit();
    waitFull(smem.vFull(before), visits - 1);
    ptx::wgmmaFence();
    issuePV(before, visits > tileBegin + 1);
    ptx::wgmmaCommit();
    if constexpr (S.ping_pong)
      ptx::barrierArrive(kTurn + (warpgroup ^ 1), 256);
    ptx::wgmmaWait<1>();
    ptx::wgmmaPin(s);
    release(smem.kEmpty(stage));
    bool grew = softmax.next(s);
    ptx::wgmmaWait<0>();
    ptx::wgmmaPin(o);
    release(smem.vEmpty(before));
    packP();
    if (grew)
      softmax.rescaleOutput(o);
    ++visits;
  }

  /// The last P V, and the sums.
  CALIBATT_DEVICE void last() {
    const u32 stage = (visits - 1) % S.stages;
    waitFull(smem.vFull(stage), visits - 1);
    ptx::wgmmaFence();
    issuePV(stage, visits > tileBegin + 1);
    ptx::wgmmaCommit();
    ptx::wgmmaWait<0>();
    ptx::wgmmaPin(o);
    if constexpr (S.persistent)
      release(smem.vEmpty(stage));
    softmax.finish(o);
  }

  /// A whole row in a loop: `count` visits, the first masked where `tail`.
  CALIBATT_DEVICE void run(u32 count, bool tail) {
    if (S.tokens % kTileKeys != 0 && tail)
      first<true>();
    else
      first<false>();
#pragma unroll 1
    for (u32 i = 1; i < count; ++i)
      step();
    last();
  }

  /// Gives the buffer of the tile before back, when the store from it has been read.
  CALIBATT_DEVICE void releaseQ() {
    if (!holdsQ)
      return;
    holdsQ = false;
    if (threadIdx.x % 128 == 0)
      ptx::tmaStoreWaitRead();
    __syncwarp();
    release(smem.qEmpty((tiles - 1) & 1));
  }

  /// One arrival a warp; what all warps release is free after the eighth.
  CALIBATT_DEVICE static void release(u32 barrier) {
    if (threadIdx.x % 32 == 0)
      ptx::mbarrierArrive(barrier);
  }

  // The pieces of a step, also run one by one by the bring-up tests.

  /// S = Q K^T with K of `stage`.
  CALIBATT_DEVICE void issueQK(u32 stage) {
    u64 a = descriptorKMajor(q() + warpgroup * 8192);
    u64 b = descriptorKMajor(smem.k(stage));
#pragma unroll
    for (int k = 0; k < kSteps16; ++k) {
      u64 advance = u64(k / 4) * (kHalf >> 4) + u64(k % 4) * 2;
      ptx::wgmmaSS(s, a + advance, b + advance, k > 0);
    }
  }

  /// O = P V, plus O where `accumulate`, with V of `stage`.
  CALIBATT_DEVICE void issuePV(u32 stage, bool accumulate) {
    // The stride between 64-column halves: of V's own two, and to the half of ones.
    constexpr int kStride = S.head_dim == 128 || S.mma_sums ? int(kHalf) : 0;
    const u64 b = descriptorMnMajor<kStride>(smem.v(stage));
#pragma unroll
    for (int k = 0; k < kTileKeys / 16; ++k)
      ptx::wgmmaRS(o, p + 4 * k, b + u64(k) * 128, k > 0 || accumulate);
  }

  /// S to bf16 in the layout of wgmma's A operand: no lane exchanges anything.
  CALIBATT_DEVICE void packP() {
#pragma unroll
    for (int i = 0; i < 32; ++i)
      p[i] = ptx::packBf16(s[2 * i], s[2 * i + 1]);
  }

private:
  static constexpr u32 kTurn = 1; ///< named barriers 1 and 2

  CALIBATT_DEVICE static void waitFull(u32 barrier, u32 use) {
    ptx::mbarrierWait<S.watchdog>(barrier, (use / S.stages) & 1);
  }

  CALIBATT_DEVICE void maskTail() {
    constexpr int kValid = S.tokens % kTileKeys;
    const int column = 2 * (threadIdx.x % 4);
#pragma unroll
    for (int j = 0; j < 16; ++j) {
#pragma unroll
      for (int b = 0; b < 2; ++b) {
        if (8 * j + column + b >= kValid) {
          s[4 * j + b] = -softmax.infinity();
          s[4 * j + 2 + b] = -softmax.infinity();
        }
      }
    }
  }
};

} // namespace calibatt

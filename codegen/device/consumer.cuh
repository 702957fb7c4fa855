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
#include "online_softmax.cuh"
#include "ptx/mbarrier.cuh"
#include "ptx/wgmma.cuh"
#include "smem_layout.cuh"

namespace calibatt {

template <AttentionSpec S> struct Consumer {
  static constexpr int kSteps16 = S.head_dim / 16; ///< k16 steps of Q K
  static constexpr u32 kHalf = SmemLayout<S>::kHalf;

  SmemLayout<S> smem;
  u32 warpgroup; ///< 0 or 1, uniform
  bool packed;   ///< Q is there already: this warpgroup gathered it (anchors.cuh)
  u32 visits = 0;
  float s[64];
  float o[S.head_dim / 2];
  u32 p[32];
  OnlineSoftmax<S> softmax;

  /// The first visit; Tail where its block is the masked tail of the keys.
  template <bool Tail> CALIBATT_DEVICE void first() {
    if (S.ping_pong && warpgroup == 0)
      ptx::barrierArrive(kTurn, 256);
    if (S.anchors == 0 || !packed)
      ptx::mbarrierWait<S.watchdog>(smem.qFull(), 0);
    waitFull(smem.kFull(0), 0);
    ptx::wgmmaFence();
    issueQK(0);
    ptx::wgmmaCommit();
    ptx::wgmmaWait<0>();
    ptx::wgmmaPin(s);
    release(smem.kEmpty(0));
    if constexpr (Tail)
      maskTail();
    softmax.first(s);
    packP();
    visits = 1;
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
    issuePV(before, visits > 1);
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
      rescaleO();
    ++visits;
  }

  /// The last P V, and the sums.
  CALIBATT_DEVICE void last() {
    const u32 stage = (visits - 1) % S.stages;
    waitFull(smem.vFull(stage), visits - 1);
    ptx::wgmmaFence();
    issuePV(stage, visits > 1);
    ptx::wgmmaCommit();
    ptx::wgmmaWait<0>();
    ptx::wgmmaPin(o);
    softmax.finish();
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

  // The pieces of a step, also run one by one by the bring-up tests.

  /// S = Q K^T with K of `stage`.
  CALIBATT_DEVICE void issueQK(u32 stage) {
    u64 a = descriptorKMajor(smem.q() + warpgroup * 8192);
    u64 b = descriptorKMajor(smem.k(stage));
#pragma unroll
    for (int k = 0; k < kSteps16; ++k) {
      u64 advance = u64(k / 4) * (kHalf >> 4) + u64(k % 4) * 2;
      ptx::wgmmaSS(s, a + advance, b + advance, k > 0);
    }
  }

  /// O = P V, plus O where `accumulate`, with V of `stage`.
  CALIBATT_DEVICE void issuePV(u32 stage, bool accumulate) {
    u64 b = descriptorMnMajor<S.head_dim == 128 ? int(kHalf) : 0>(smem.v(stage));
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

  /// One arrival a warp; the stage is free after the eighth.
  CALIBATT_DEVICE static void release(u32 barrier) {
    if (threadIdx.x % 32 == 0)
      ptx::mbarrierArrive(barrier);
  }

  CALIBATT_DEVICE void maskTail() {
    constexpr int kValid = S.tokens % kTileKeys;
    const int column = 2 * (threadIdx.x % 4);
#pragma unroll
    for (int j = 0; j < 16; ++j) {
#pragma unroll
      for (int b = 0; b < 2; ++b) {
        if (8 * j + column + b >= kValid) {
          s[4 * j + b] = -OnlineSoftmax<S>::infinity();
          s[4 * j + 2 + b] = -OnlineSoftmax<S>::infinity();
        }
      }
    }
  }

  CALIBATT_DEVICE void rescaleO() {
#pragma unroll
    for (int j = 0; j < S.head_dim / 8; ++j) {
      o[4 * j] *= softmax.rescale[0];
      o[4 * j + 1] *= softmax.rescale[0];
      o[4 * j + 2] *= softmax.rescale[1];
      o[4 * j + 3] *= softmax.rescale[1];
    }
  }
};

} // namespace calibatt

// O and LSE of one warpgroup to global memory. O is staged in the warpgroup's
// own rows of the Q tile, which its last Q K has finished reading, and stored
// by TMA, which clips the rows past the end.
#pragma once

#include "consumer.cuh"
#include "ptx/tma.cuh"

namespace calibatt {

/// Shared address of 16-byte chunk `chunk` of row `r` of a warpgroup's 64 rows of Q.
template <AttentionSpec S, class Softmax>
CALIBATT_DEVICE u32 stagedChunk(const Consumer<S, Softmax> &c, u32 r, u32 chunk) {
  return c.q() + c.warpgroup * 8192 + (chunk / 8) * SmemLayout<S>::kHalf + r * 128 +
         (((chunk % 8) ^ (r & 7)) << 4);
}

/// Row of a thread's fragment within the warpgroup's 64; the other is 8 below.
CALIBATT_DEVICE u32 fragmentRow() { return threadIdx.x % 128 / 32 * 16 + threadIdx.x % 32 / 4; }

/// O, divided by the sums, in bf16 to where the warpgroup's rows of Q were; then
/// every thread of the warpgroup, and TMA, may read it.
template <AttentionSpec S, class Softmax> CALIBATT_DEVICE void stageTile(Consumer<S, Softmax> &c) {
  const u32 tileRow = fragmentRow();

  float inverse[kRowsPerThread];
#pragma unroll
  for (int i = 0; i < kRowsPerThread; ++i)
    inverse[i] = ptx::reciprocalApprox(c.softmax.divisor[i]);

#pragma unroll
  for (int j = 0; j < S.head_dim / 8; ++j) {
#pragma unroll
    for (int i = 0; i < kRowsPerThread; ++i) {
      ptx::storeShared(
          stagedChunk(c, tileRow + 8 * i, j) + (threadIdx.x % 4) * 4,
          ptx::packBf16(c.o[4 * j + 2 * i] * inverse[i], c.o[4 * j + 2 * i + 1] * inverse[i]));
    }
  }
  ptx::fenceProxyAsync();
  ptx::barrierSync(3 + c.warpgroup, 128);
}

template <AttentionSpec S, class Softmax>
CALIBATT_DEVICE void storeTile(Consumer<S, Softmax> &c, const LaunchParams &params, u32 row,
                               u32 head, u32 batch) {
  stageTile(c);
  const u32 thread = threadIdx.x % 128, lane = thread % 32;
  const u32 staged = c.q() + c.warpgroup * 8192;
  const u32 token = row * kTileRows + c.warpgroup * 64;
  if (thread == 0) {
#pragma unroll
    for (u32 half = 0; half < S.head_dim / 64; ++half)
      ptx::tmaStore(&params.o, staged + half * SmemLayout<S>::kHalf, token, half, head, batch);
    ptx::tmaStoreCommit();
    if constexpr (!S.persistent) // else before the buffer is released
      ptx::tmaStoreWaitRead();
  }

  if (params.lse != nullptr && lane % 4 == 0) {
    float *lse = params.lse + batch * params.lse_batch_stride + head * params.lse_head_stride;
#pragma unroll
    for (int i = 0; i < kRowsPerThread; ++i) {
      const u32 t = token + fragmentRow() + 8 * i;
      if (t < S.tokens)
        lse[t] = c.softmax.logSumExp(i);
    }
  }
}

} // namespace calibatt

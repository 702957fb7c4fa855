// The building blocks of the attention kernel one at a time, so that a wrong
// bit on a new GPU or driver points at one instruction. All inputs are small
// integers: every product and sum is exact.
#include "consumer.cuh"
#include "kernels/attention_sm90.cuh"

namespace {

using namespace calibatt;

/// Loads the tile of `map` at `token` into shared memory and waits for it.
template <AttentionSpec S>
CALIBATT_DEVICE void loadTile(const TensorMap *map, u32 smem, u32 barrier, u32 token, u32 head) {
  if (threadIdx.x == 0) {
    ptx::mbarrierArriveExpectTx(barrier, SmemLayout<S>::kTile);
    ptx::tmaLoad(smem, map, barrier, token, head, 0, ptx::kEvictFirst);
  }
  ptx::mbarrierWait<true>(barrier, 0);
}

/// Two warpgroups, all of them consumers.
constexpr u32 kBringupThreads = 256;

extern __shared__ unsigned char dynamicSmem[];

/// TMA: the raw bytes of a query tile to `out`, and the tile back to o.
template <AttentionSpec S> CALIBATT_DEVICE void tma(const LaunchParams &params, u32 *out) {
  const auto smem = SmemLayout<S>::fromDynamic(dynamicSmem);
  const u32 token = blockIdx.x * kTileRows, head = blockIdx.y;
  initBarriers<S>(smem);
  loadTile<S>(&params.q, smem.q(), smem.qFull(), token, head);
  u32 *tile = out + (blockIdx.y * gridDim.x + blockIdx.x) * (SmemLayout<S>::kTile / 4);
  for (u32 i = threadIdx.x; i < SmemLayout<S>::kTile / 4; i += kBringupThreads) {
    u32 word;
    asm volatile("ld.shared.b32 %0, [%1];" : "=r"(word) : "r"(smem.q() + 4 * i));
    tile[i] = word;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    for (u32 half = 0; half < S.head_dim / 64; ++half)
      for (u32 part = 0; part < 2; ++part)
        ptx::tmaStore(&params.o, smem.q() + half * SmemLayout<S>::kHalf + part * 8192,
                      token + part * 64, half, head, 0);
    ptx::tmaStoreCommit();
    ptx::tmaStoreWaitRead();
  }
}

/// wgmma: S = Q K^T, then O = P V with P the one-hot rows (5 r + 3) mod 128,
/// both as the fragments of every thread.
template <AttentionSpec S> CALIBATT_DEVICE void mma(const LaunchParams &params, u32 *out) {
  const auto smem = SmemLayout<S>::fromDynamic(dynamicSmem);
  const u32 warpgroup = __shfl_sync(~0u, threadIdx.x / 128, 0);
  initBarriers<S>(smem);
  loadTile<S>(&params.q, smem.q(), smem.qFull(), 0, 0);
  loadTile<S>(&params.k, smem.k(0), smem.kFull(0), 0, 0);
  loadTile<S>(&params.v, smem.v(0), smem.vFull(0), 0, 0);
  Consumer<S> c{smem, warpgroup};
  ptx::wgmmaFence();
  c.issueQK(0);
  ptx::wgmmaCommit();
  ptx::wgmmaWait<0>();
  ptx::wgmmaPin(c.s);
  float *fragments = reinterpret_cast<float *>(out) + threadIdx.x * (64 + S.head_dim / 2);
#pragma unroll
  for (int i = 0; i < 64; ++i)
    fragments[i] = c.s[i];

  const u32 row = warpgroup * 64 + threadIdx.x % 128 / 32 * 16 + threadIdx.x % 32 / 4;
#pragma unroll
  for (int j = 0; j < 16; ++j)
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
      for (int b = 0; b < 2; ++b)
        c.s[4 * j + 2 * i + b] =
            8 * j + 2 * (threadIdx.x % 4) + b == (5 * (row + 8 * i) + 3) % 128 ? 1.0f : 0.0f;
  c.packP();
  ptx::wgmmaFence();
  c.issuePV(0, false);
  ptx::wgmmaCommit();
  ptx::wgmmaWait<0>();
  ptx::wgmmaPin(c.o);
#pragma unroll
  for (int i = 0; i < S.head_dim / 2; ++i)
    fragments[64 + i] = c.o[i];
}

[[maybe_unused]] constexpr AttentionSpec kSpec64 =
    withoutLists({.head_dim = 64, .tokens = 420, .scale = 0.125f});
[[maybe_unused]] constexpr AttentionSpec kSpec128 =
    withoutLists({.head_dim = 128, .tokens = 420, .scale = 0.125f});
static_assert(sizeof(LaunchParams) == 640); // bringup.py has it too

} // namespace

// One entry a translation unit: BuildBringup appends CALIBATT_BRINGUP(tma, 64) and the like.
#define CALIBATT_BRINGUP(name, dim)                                                                \
  extern "C" __global__ void __launch_bounds__(256, 1)                                             \
      name##_##dim(const __grid_constant__ LaunchParams params, unsigned *out) {                   \
    name<kSpec##dim>(params, out);                                                                 \
  }

// Block-sparse attention forward for sm_90a: one CTA a query tile, or a list of
// them (persistent_sm90.cuh).
//
//   warpgroup 0 (40 registers)      one thread: TMA loads of Q, K, V
//   warpgroups 1, 2 (232 registers) 64 query rows each: wgmma, softmax, store
//
//            K full / V full              K empty / V empty
//   producer ----------------> consumers ------------------> producer   (mbarriers)
//   consumer 1 <--- turn ---> consumer 2                     (named barriers 1, 2)
//
// A Program says which key blocks the tile visits, and whether it is one of packed
// anchor queries: DataProgram (schedule.cuh), or the emitted one of an unrolled
// kernel.
#pragma once

#include "anchors.cuh"
#include "consumer.cuh"
#include "epilogue.cuh"
#include "immediate_runs.cuh"
#include "kernels/persistent_sm90.cuh"
#include "producer.cuh"
#include "schedule.cuh"

namespace calibatt {

template <AttentionSpec S> CALIBATT_DEVICE void initBarriers(const SmemLayout<S> &smem) {
  if (threadIdx.x == 0) {
#pragma unroll
    for (u32 buffer = 0; buffer < queryBuffers(S); ++buffer) {
      ptx::mbarrierInit(smem.qFull(buffer), 1);
      ptx::mbarrierInit(smem.qEmpty(buffer), 8);
    }
    ptx::mbarrierInit(smem.listDone(), 8);
#pragma unroll
    for (u32 stage = 0; stage < S.stages; ++stage) {
      ptx::mbarrierInit(smem.kFull(stage), 1);
      ptx::mbarrierInit(smem.vFull(stage), 1);
      ptx::mbarrierInit(smem.kEmpty(stage), 8);
      ptx::mbarrierInit(smem.vEmpty(stage), 8);
    }
    ptx::fenceMbarrierInit();
  }
  if constexpr (S.mma_sums) {
    constexpr u32 kOnes = 0x3F803F80u; // twice 1 in bf16
    for (u32 i = threadIdx.x; i < u32(onesBytes(S)) / 16 * S.stages; i += kThreads)
      ptx::storeShared16(smem.v(i % S.stages) + SmemLayout<S>::kTile + i / S.stages * 16,
                         {kOnes, kOnes, kOnes, kOnes});
    ptx::fenceProxyAsync();
  }
  if constexpr (S.frozen_max)
    for (u32 i = threadIdx.x; i < SmemLayout<S>::kFlags; i += kThreads)
      ptx::storeShared8(smem.flag(i), 0);
  __syncthreads();
}

/// A CTA with a list of tiles.
template <AttentionSpec S, class MakeProgram>
CALIBATT_DEVICE void runList(const LaunchParams &params, const SmemLayout<S> &smem,
                             MakeProgram makeProgram) {
  initBarriers<S>(smem);
  const u32 warpgroup = __shfl_sync(~0u, threadIdx.x / 128, 0);
  if (warpgroup == 0) {
    ptx::registersDown<40>();
    if (threadIdx.x == 0) {
      ptx::prefetchTensorMap(&params.o);
      produceTiles<S>(params, smem, TileList::of(params), makeProgram);
    }
  } else {
    ptx::registersUp<232>();
    consumeTiles<S>(params, smem, warpgroup - 1);
  }
}

/// A CTA with one tile.
template <AttentionSpec S, class MakeProgram>
CALIBATT_DEVICE void runTile(const LaunchParams &params, const SmemLayout<S> &smem,
                             MakeProgram makeProgram) {
  const u32 work = params.work[blockIdx.x];
  const u32 row = workRow(work), head = workHead(work), batch = workBatch(work);
  initBarriers<S>(smem);
  Producer<S> producer{params, smem, row, head, batch};
  if (S.anchors == 0 && threadIdx.x == 0)
    producer.loadQ();
  const auto program = makeProgram(row, head - params.head_base);
  const bool packed = S.anchors != 0 && program.isPacked();
  if (S.anchors != 0 && !program.exists())
    return; // a row that a repetitive head does not have
  // Broadcast, so that the compiler knows it to be uniform over the warp.
  const u32 warpgroup = __shfl_sync(~0u, threadIdx.x / 128, 0);

  if (warpgroup == 0) {
    ptx::registersDown<40>();
    if (threadIdx.x == 0) {
      ptx::prefetchTensorMap(&params.o);
      if (S.anchors != 0 && !packed)
        producer.loadQ();
      program.produce(producer);
    }
  } else {
    ptx::registersUp<232>();
    Consumer<S> consumer{smem, warpgroup - 1, packed};
    consumer.begin();
    if constexpr (S.anchors != 0) {
      if (packed)
        gatherQueries<S>(consumer, params, row, head, batch);
    }
    program.consume(consumer);
    if (packed)
      scatterTile<S>(consumer, params, row, head, batch);
    else
      storeTile<S>(consumer, params, row, head, batch);
  }
}

/// The whole kernel. `makeProgram(row, head)` gives the Program of a tile; only
/// DataProgram can follow another in a list.
template <AttentionSpec S, class MakeProgram>
CALIBATT_DEVICE void attentionSm90(const LaunchParams &params, MakeProgram makeProgram) {
  static_assert(isValid(S));
  extern __shared__ unsigned char dynamicSmem[];
  const auto smem = SmemLayout<S>::fromDynamic(dynamicSmem);
  if constexpr (S.persistent)
    runList<S>(params, smem, makeProgram);
  else
    runTile<S>(params, smem, makeProgram);
}

} // namespace calibatt

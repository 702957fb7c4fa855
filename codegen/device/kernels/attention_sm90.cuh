// Block-sparse attention forward for sm_90a: one CTA a query tile.
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
#include "producer.cuh"
#include "schedule.cuh"

namespace calibatt {

template <AttentionSpec S> CALIBATT_DEVICE void initBarriers(const SmemLayout<S> &smem) {
  if (threadIdx.x == 0) {
    ptx::mbarrierInit(smem.qFull(), 1);
#pragma unroll
    for (u32 stage = 0; stage < S.stages; ++stage) {
      ptx::mbarrierInit(smem.kFull(stage), 1);
      ptx::mbarrierInit(smem.vFull(stage), 1);
      ptx::mbarrierInit(smem.kEmpty(stage), 8);
      ptx::mbarrierInit(smem.vEmpty(stage), 8);
    }
    ptx::fenceMbarrierInit();
  }
  __syncthreads();
}

/// The whole kernel. `makeProgram(row, head)` gives the Program of a tile.
template <AttentionSpec S, class MakeProgram>
CALIBATT_DEVICE void attentionSm90(const LaunchParams &params, MakeProgram makeProgram) {
  static_assert(isValid(S));
  extern __shared__ unsigned char dynamicSmem[];
  const auto smem = SmemLayout<S>::fromDynamic(dynamicSmem);
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

} // namespace calibatt

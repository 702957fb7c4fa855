// The load side of the pipeline: one thread that issues every TMA load of a
// tile, in the order Q, K0, (K1 V0), (K2 V1), ..., V last: V lags one visit.
#pragma once

#include "ptx/mbarrier.cuh"
#include "ptx/tma.cuh"
#include "runtime/format/ScheduleLayout.h"
#include "smem_layout.cuh"

namespace calibatt {

template <AttentionSpec S> struct Producer {
  const LaunchParams &params;
  SmemLayout<S> smem;
  u32 row, head, batch; ///< the query tile
  u32 visits = 0;       ///< loads of K issued since the kernel began
  u32 tileBegin = 0;    ///< visits when the tile began
  u32 previous = 0;     ///< token of the visit before

  /// Key block `Block` as visit number `Index`: the form of unrolled programs.
  template <u32 Index, u32 Block> CALIBATT_DEVICE void visit() {
    visits = Index;
    visitToken(Block * kTileKeys);
  }

  /// The block of keys that starts at `token`.
  CALIBATT_DEVICE void visitToken(u32 token) {
    loadK(token);
    if (visits != tileBegin)
      loadV(visits - 1);
    previous = token;
    ++visits;
  }

  /// The key blocks of a run (packRun), from the last to the first.
  CALIBATT_DEVICE void visitRun(u32 run) {
    const u32 start = runTokenStart(run);
#pragma unroll 1
    for (u32 block = runBlocks(run); block > 0; --block)
      visitToken(start + (block - 1) * kTileKeys);
  }

  /// The V block of the last visit.
  CALIBATT_DEVICE void finish() { loadV(visits - 1); }

  /// The queries of the tile; not of a packed one, whose consumers gather them. First of all, while
  /// the program is still looking up what it visits.
  CALIBATT_DEVICE void loadQ(u32 buffer = 0) {
    ptx::mbarrierArriveExpectTx(smem.qFull(buffer), SmemLayout<S>::kTile);
    ptx::tmaLoad(smem.q(buffer), &params.q, smem.qFull(buffer), row * kTileRows, head, batch,
                 ptx::kEvictFirst);
  }

private:
  /// Parity to wait for before use number `use` of a stage: the wait passes at
  /// once for the first use of each.
  CALIBATT_DEVICE static u32 emptyParity(u32 use) { return ((use / S.stages) & 1) ^ 1; }

  CALIBATT_DEVICE void loadK(u32 token) {
    u32 stage = visits % S.stages;
    ptx::mbarrierWait<S.watchdog>(smem.kEmpty(stage), emptyParity(visits));
    ptx::mbarrierArriveExpectTx(smem.kFull(stage), SmemLayout<S>::kTile);
    ptx::tmaLoad(smem.k(stage), &params.k, smem.kFull(stage), token, head, batch, ptx::kEvictLast);
  }

  CALIBATT_DEVICE void loadV(u32 use) {
    u32 stage = use % S.stages;
    ptx::mbarrierWait<S.watchdog>(smem.vEmpty(stage), emptyParity(use));
    ptx::mbarrierArriveExpectTx(smem.vFull(stage), SmemLayout<S>::kTile);
    ptx::tmaLoad(smem.v(stage), &params.v, smem.vFull(stage), previous, head, batch,
                 ptx::kEvictLast);
  }
};

} // namespace calibatt

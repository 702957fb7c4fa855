// The schedule of a `schedule` kernel: runs of key blocks as immediates of the
// code, a compare and a select each, and the one loop that loads them.
#pragma once

#include "producer.cuh"

namespace calibatt {

/// Which run begins at a visit. A row class says all its runs in visiting order;
/// each replaces the answer of those that began earlier. Passed and returned by
/// value: behind a reference, with thousands of runs, it would live in memory.
struct RunLookup {
  u32 visit;     ///< number of the visit, 0 the first of the row
  u32 found = 0; ///< packRun()

  /// Visits number `Index` and following are the `Count` key blocks from
  /// `Block + Count - 1` down to `Block`.
  template <u32 Index, u32 Block, u32 Count> CALIBATT_DEVICE void run() {
    static_assert(Count >= 1 && Count <= kMaxRunBlocks);
    if (Index == 0 || visit >= Index)
      found = packRun(Block * kTileKeys, Count);
  }

  /// The answer; 0 at the end of the row, after `Visits` visits.
  template <u32 Visits> CALIBATT_DEVICE u32 end() const { return visit < Visits ? found : 0; }
};

/// The loads of a row. `runAt(visit)` is the answer of the row's class: it is
/// asked once a run.
template <AttentionSpec S, class RunAt>
CALIBATT_DEVICE void produceRuns(Producer<S> &producer, RunAt runAt) {
#pragma unroll 1
  while (const u32 run = runAt(producer.visits))
    producer.visitRun(run);
  producer.finish();
}

} // namespace calibatt

// The tiles of a persistent CTA. The producer walks the list and says, in a slot
// beside each Q buffer, what the tile in it is; the consumers follow. A buffer
// is free again when all consumer warps have stored what they staged in it.
//
//   producer:   wait Q empty | slot, Q load -> Q full | K and V of the tile | next tile
//   consumers:  wait Q full | slot | visits | stage O in the Q buffer, TMA store |
//               first visit of the next tile | store has read -> Q empty
#pragma once

#include "anchors.cuh"
#include "consumer.cuh"
#include "epilogue.cuh"
#include "producer.cuh"

namespace calibatt {

/// The list of this CTA: words params.work[begin .. end).
struct TileList {
  u32 begin, end;

  CALIBATT_DEVICE static TileList of(const LaunchParams &params) {
    if (params.work_begin == nullptr)
      return {blockIdx.x, blockIdx.x + 1};
    return {ptx::loadConstant(params.work_begin + blockIdx.x),
            ptx::loadConstant(params.work_begin + blockIdx.x + 1)};
  }
};

/// What is in a Q buffer. `row` is RowEntry::visits with its flags; 0 ends the list.
struct TileSlot {
  u32 work, row, number;
};

/// Says what the next Q buffer holds, and loads Q there unless the consumers gather it.
template <AttentionSpec S>
CALIBATT_DEVICE void announce(Producer<S> &p, u32 &tiles, const TileSlot &slot) {
  const u32 buffer = tiles & 1;
  ptx::mbarrierWait<S.watchdog>(p.smem.qEmpty(buffer), ((tiles >> 1) & 1) ^ 1);
  ptx::storeShared16(p.smem.tileSlot(buffer), {slot.work, slot.row, slot.number, 0});
  if (slot.row == 0 || (S.anchors != 0 && (slot.row & kRowIsPacked) != 0))
    ptx::mbarrierArrive(p.smem.qFull(buffer));
  else
    p.loadQ(buffer);
  ++tiles;
}

/// Loads the tiles of a list; with `Again` those whose flag is set.
template <bool Again, AttentionSpec S, class MakeProgram>
CALIBATT_DEVICE void produceList(Producer<S> &p, u32 &tiles, const TileList &list,
                                 MakeProgram makeProgram) {
#pragma unroll 1
  for (u32 i = list.begin; i < list.end; ++i) {
    if (Again && ptx::loadShared8(p.smem.flag(i - list.begin)) == 0)
      continue;
    const u32 work = ptx::loadConstant(p.params.work + i);
    p.row = workRow(work), p.head = workHead(work), p.batch = workBatch(work);
    const auto program = makeProgram(p.row, p.head - p.params.head_base);
    if (!program.exists())
      continue; // a row that a repetitive head does not have
    announce(p, tiles, {work, program.row, i - list.begin});
    p.tileBegin = p.visits;
    program.produce(p);
  }
  announce(p, tiles, {0, 0, 0});
}

/// The slot of the consumer's next tile, when its Q is there or may be gathered.
template <AttentionSpec S> CALIBATT_DEVICE TileSlot awaitTile(const Consumer<S> &c) {
  const u32 buffer = c.tiles & 1;
  ptx::mbarrierWait<S.watchdog>(c.smem.qFull(buffer), (c.tiles >> 1) & 1);
  uint4 slot = {};
  if (threadIdx.x % 32 == 0) // the lane that gives the buffer back
    slot = ptx::loadShared16(c.smem.tileSlot(buffer));
  return {__shfl_sync(~0u, slot.x, 0), __shfl_sync(~0u, slot.y, 0), __shfl_sync(~0u, slot.z, 0)};
}

/// Computes the tiles of a list. With a frozen maximum, sets the flags of those to run again.
template <AttentionSpec S>
CALIBATT_DEVICE void consumeList(Consumer<S> &c, const LaunchParams &params) {
#pragma unroll 1
  while (true) {
    const TileSlot slot = awaitTile(c);
    if (slot.row == 0)
      break;
    const u32 row = workRow(slot.work), head = workHead(slot.work), batch = workBatch(slot.work);
    c.packed = S.anchors != 0 && (slot.row & kRowIsPacked) != 0;
    if constexpr (S.anchors != 0) {
      if (c.packed)
        gatherQueries<S>(c, params, row, head, batch);
    }
    c.run(slot.row & kRowVisitsMask, (slot.row & kRowStartsWithTail) != 0);
    if constexpr (S.frozen_max) {
      if (__any_sync(~0u, !c.softmax.isGood(c.o)) && threadIdx.x % 32 == 0)
        ptx::storeShared8(c.smem.flag(slot.number), 1);
    }
    if (c.packed)
      scatterTile<S>(c, params, row, head, batch);
    else
      storeTile<S>(c, params, row, head, batch);
    c.holdsQ = true;
    ++c.tiles;
  }
  // Every warp has read the slot and every store is done: what runs again stores after it.
  ptx::barrierSync(3 + c.warpgroup, 128);
  if (threadIdx.x % 128 == 0)
    ptx::tmaStoreWait();
  c.releaseQ();
  c.release(c.smem.qEmpty(c.tiles & 1));
  ++c.tiles;
  c.release(c.smem.listDone());
}

} // namespace calibatt

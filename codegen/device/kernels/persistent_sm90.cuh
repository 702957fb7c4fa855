// Block-sparse attention forward for sm_90a: a CTA walks a list of query tiles
// (tile_list.cuh), so that Q and the first K and V of the next tile load while the
// last one is finished. Roles and pipeline are those of attention_sm90.cuh.
//
// With a frozen maximum the list may be walked twice: when all of it is done, the
// tiles that were told apart as bad run again with the online softmax. Doing it
// at once would deadlock: the producer has run ahead, and one warpgroup may find
// its rows good where the other does not.
#pragma once

#include "ptx/global.cuh"
#include "tile_list.cuh"

namespace calibatt {

/// The same kernel with the online softmax.
constexpr AttentionSpec withOnlineSoftmax(AttentionSpec spec) {
  spec.frozen_max = false;
  return spec;
}

/// The same kernel where no one asks for LSE: the sums that O needs come from P V.
constexpr AttentionSpec withoutLse(AttentionSpec spec) {
  spec.lse_sums = !spec.mma_sums;
  return spec;
}

template <AttentionSpec S, class MakeProgram>
CALIBATT_DEVICE void produceTiles(const LaunchParams &params, const SmemLayout<S> &smem,
                                  const TileList &list, MakeProgram makeProgram) {
  Producer<S> producer{params, smem};
  u32 tiles = 0;
  produceList<false>(producer, tiles, list, makeProgram);
  if constexpr (S.frozen_max) {
    ptx::mbarrierWait<S.watchdog>(smem.listDone(), 0);
    const u32 before = tiles;
    produceList<true>(producer, tiles, list, makeProgram);
    const u32 reruns = tiles - before - 1; // the last one ends the list
    if (reruns != 0 && params.reruns != nullptr)
      ptx::addForHost(params.reruns, reruns);
  }
}

/// Where a consumer was when its list ended.
struct ListEnd {
  u32 visits = 0, tiles = 0;
};

/// A walk over the list with a consumer that goes on where another one ended.
template <AttentionSpec S>
CALIBATT_DEVICE ListEnd consumeFrom(const LaunchParams &params, u32 smem, u32 warpgroup,
                                    ListEnd start) {
  Consumer<S> consumer{{smem}, warpgroup};
  consumer.visits = start.visits;
  consumer.tiles = start.tiles;
  if (start.tiles == 0)
    consumer.begin();
  consumeList(consumer, params);
  return {consumer.visits, consumer.tiles};
}

template <AttentionSpec S>
CALIBATT_DEVICE void consumeTiles(const LaunchParams &params, const SmemLayout<S> &smem,
                                  u32 warpgroup) {
  ListEnd end;
  if (S.mma_sums && params.lse == nullptr)
    end = consumeFrom<withoutLse(S)>(params, smem.base, warpgroup, {});
  else
    end = consumeFrom<S>(params, smem.base, warpgroup, {});
  if constexpr (S.frozen_max)
    consumeFrom<withOnlineSoftmax(S)>(params, smem.base, warpgroup, end);
}

} // namespace calibatt

// Tiles of repetitive heads: 128 packed anchor queries (AnchorLayout.h). Their rows
// lie apart in memory, so each warpgroup gathers its 64 itself, 16 bytes a load,
// and stores each output to every row that it stands for.
#pragma once

#include "epilogue.cuh"

namespace calibatt {

/// Q of the tile's rows to shared memory, in the layout of a TMA load. Rows past
/// the last packed query are zeros.
template <AttentionSpec S>
CALIBATT_DEVICE void gatherQueries(const Consumer<S> &c, const LaunchParams &params, u32 row,
                                   u32 head, u32 batch) {
  constexpr u32 kChunks = S.head_dim / 8;
  const unsigned char *q = params.q_data + batch * params.q_strides[0] + head * params.q_strides[1];
#pragma unroll 4
  for (u32 i = threadIdx.x % 128; i < 64 * kChunks; i += 128) {
    const u32 r = i / kChunks, chunk = i % kChunks;
    const u32 index = row * kTileRows + c.warpgroup * 64 + r;
    uint4 value = {0, 0, 0, 0};
    if (index < packedQueries(anchorGrid(S), S.tokens))
      value = ptx::loadGlobal16(q + packedQuery(anchorGrid(S), index).token * params.q_strides[2] +
                                chunk * 16);
    ptx::storeShared16(stagedChunk(c, r, chunk), value);
  }
  ptx::fenceProxyAsync();
  ptx::barrierSync(3 + c.warpgroup, 128);
}

/// O and LSE of the tile's rows to all the rows they stand for.
template <AttentionSpec S>
CALIBATT_DEVICE void scatterTile(Consumer<S> &c, const LaunchParams &params, u32 row, u32 head,
                                 u32 batch) {
  constexpr AnchorGrid kGrid = anchorGrid(S);
  constexpr u32 kChunks = S.head_dim / 8;
  stageTile(c);
  const u32 first = row * kTileRows + c.warpgroup * 64;
  unsigned char *o = params.o_data + batch * params.o_strides[0] + head * params.o_strides[1];
#pragma unroll 1
  for (u32 i = threadIdx.x % 128; i < 64 * kChunks; i += 128) {
    const u32 r = i / kChunks, chunk = i % kChunks;
    if (first + r >= packedQueries(kGrid, S.tokens))
      break;
    const PackedQuery query = packedQuery(kGrid, first + r);
    const uint4 value = ptx::loadShared16(stagedChunk(c, r, chunk));
    unsigned char *to = o + query.first * params.o_strides[2] + chunk * 16;
    for (u32 copy = 0; copy < query.copies; ++copy, to += kGrid.width * params.o_strides[2])
      ptx::storeGlobal16(to, value);
  }
  if constexpr (S.persistent)
    ptx::barrierSync(3 + c.warpgroup, 128); // all have read what the next Q overwrites
  if (params.lse == nullptr || threadIdx.x % 4 != 0)
    return;
  float *lse = params.lse + batch * params.lse_batch_stride + head * params.lse_head_stride;
#pragma unroll
  for (int i = 0; i < kRowsPerThread; ++i) {
    const u32 index = first + fragmentRow() + 8 * i;
    if (index >= packedQueries(kGrid, S.tokens))
      continue;
    const PackedQuery query = packedQuery(kGrid, index);
    for (u32 copy = 0; copy < query.copies; ++copy)
      lse[query.first + copy * kGrid.width] = c.softmax.logSumExp(i);
  }
}

} // namespace calibatt

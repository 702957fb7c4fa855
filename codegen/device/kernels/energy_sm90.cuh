// Dense attention forward for sm_90a that leaves the energies of all blocks beside O
// and LSE: attention_sm90.cuh with every key block visited, a softmax that stores the
// block sums (energy_softmax.cuh), and their reduction behind the epilogue.
#pragma once

#include "block_energy.cuh"
#include "kernels/attention_sm90.cuh"

namespace calibatt {

template <AttentionSpec S, bool Weighted>
CALIBATT_DEVICE void energySm90(const EnergyParams &params) {
  using Energies = BlockEnergies<S, Weighted>;
  static_assert(isValid(S) && S.anchors == 0 && !S.persistent);
  constexpr u32 kBlocks = blockCount(S);
  extern __shared__ unsigned char dynamicSmem[];
  const auto smem = SmemLayout<S>::fromDynamic(dynamicSmem);
  const u32 row = blockIdx.x % kBlocks, headOfCall = blockIdx.x / kBlocks;
  const u32 head = headOfCall % params.heads, batch = headOfCall / params.heads;
  if (threadIdx.x == 32)
    ptx::storeShared(Energies::slotAddress(smem), claimSlot(params));
  initBarriers<S>(smem);
  Producer<S> producer{params.attention, smem, row, head, batch};
  if (threadIdx.x == 0)
    producer.loadQ();
  const u32 warpgroup = __shfl_sync(~0u, threadIdx.x / 128, 0);

  if (warpgroup == 0) {
    ptx::registersDown<40>();
    if (threadIdx.x == 0) {
      ptx::prefetchTensorMap(&params.attention.o);
#pragma unroll 1
      for (u32 block = kBlocks; block > 0; --block)
        producer.visitToken((block - 1) * kTileKeys);
      producer.finish();
    }
  } else {
    ptx::registersUp<232>();
    typename Energies::EnergyConsumer consumer{smem, warpgroup - 1};
    consumer.begin();
    const Energies energies{params, smem,  row,
                            head,   batch, ptx::loadShared(Energies::slotAddress(smem))};
    energies.begin(consumer);
    consumer.run(kBlocks, S.tokens % kTileKeys != 0);
    storeTile(consumer, params.attention, row, head, batch);
    energies.finish(consumer);
  }
}

} // namespace calibatt

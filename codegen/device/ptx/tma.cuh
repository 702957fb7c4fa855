// TMA: bulk tensor copies between global and shared memory. A tensor map is
// passed by the address of the kernel parameter; a copy of it would live in
// local memory and fault.
#pragma once

#include "runtime/format/LaunchParams.h"
#include "types.cuh"

namespace calibatt::ptx {

/// prefetch.tensormap
CALIBATT_DEVICE void prefetchTensorMap(const TensorMap *map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

/// L2 cache hints (createpolicy constants used by CUTLASS).
constexpr u64 kEvictFirst = 0x12F0000000000000ull;
constexpr u64 kEvictLast = 0x14F0000000000000ull;

/// cp.async.bulk.tensor.5d, global to shared: the box at (0, token, half, head,
/// batch); rows past the end arrive as zeros and count as bytes all the same.
CALIBATT_DEVICE void tmaLoad(u32 smem, const TensorMap *map, u32 barrier, u32 token, u32 head,
                             u32 batch, u64 hint) {
  asm volatile("cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes"
               ".L2::cache_hint [%0], [%1, {%3, %4, %3, %5, %6}], [%2], %7;" ::"r"(smem),
               "l"(map), "r"(barrier), "r"(0), "r"(token), "r"(head), "r"(batch), "l"(hint)
               : "memory");
}

/// cp.async.bulk.tensor.5d, shared to global: rows past the end are clipped.
CALIBATT_DEVICE void tmaStore(const TensorMap *map, u32 smem, u32 token, u32 half, u32 head,
                              u32 batch) {
  asm volatile("cp.async.bulk.tensor.5d.global.shared::cta.bulk_group [%0, {%2, %3, %4, %5, %6}], "
               "[%1];" ::"l"(map),
               "r"(smem), "r"(0), "r"(token), "r"(half), "r"(head), "r"(batch)
               : "memory");
}

/// cp.async.bulk.commit_group
CALIBATT_DEVICE void tmaStoreCommit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
/// cp.async.bulk.wait_group.read: this thread's stores have read shared memory.
CALIBATT_DEVICE void tmaStoreWaitRead() {
  asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
}
/// cp.async.bulk.wait_group: this thread's stores have been written.
CALIBATT_DEVICE void tmaStoreWait() { asm volatile("cp.async.bulk.wait_group 0;" ::: "memory"); }

/// fence.proxy.async: this thread's shared-memory writes become visible to TMA.
CALIBATT_DEVICE void fenceProxyAsync() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

} // namespace calibatt::ptx

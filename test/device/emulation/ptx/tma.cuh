// Model of codegen/device/ptx/tma.cuh.
#pragma once

#include "Emulator.h"
#include "runtime/format/LaunchParams.h"
#include "types.cuh"

namespace calibatt::ptx {

constexpr u64 kEvictFirst = 0, kEvictLast = 0;
inline void prefetchTensorMap(const TensorMap *) {}
inline void tmaLoad(u32 smem, const TensorMap *map, u32 barrier, u32 token, u32 head, u32 batch,
                    u64) {
  emulator::tmaLoad(smem, map, barrier, {0, token, 0, head, batch});
}
inline void tmaStore(const TensorMap *map, u32 smem, u32 token, u32 half, u32 head, u32 batch) {
  emulator::tmaStore(map, smem, {0, token, half, head, batch});
}
inline void tmaStoreCommit() {}
inline void tmaStoreWaitRead() { emulator::tmaStoreWait(); }
inline void tmaStoreWait() { emulator::tmaStoreWait(); }
inline void fenceProxyAsync() {}

} // namespace calibatt::ptx

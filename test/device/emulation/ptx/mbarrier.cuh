// Model of codegen/device/ptx/mbarrier.cuh.
#pragma once

#include "Emulator.h"
#include "types.cuh"

namespace calibatt::ptx {

inline void mbarrierInit(u32 barrier, u32 count) { emulator::mbarrierInit(barrier, count); }
inline void fenceMbarrierInit() {}
inline void mbarrierArrive(u32 barrier) { emulator::mbarrierArrive(barrier, 0); }
inline void mbarrierArriveExpectTx(u32 barrier, u32 bytes) {
  emulator::mbarrierArrive(barrier, bytes);
}
template <bool Watchdog> void mbarrierWait(u32 barrier, u32 parity) {
  emulator::waitUntil([=] { return emulator::mbarrierPhaseDone(barrier, parity); }, "an mbarrier");
}

} // namespace calibatt::ptx

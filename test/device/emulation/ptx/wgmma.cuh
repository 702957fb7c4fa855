// Model of codegen/device/ptx/wgmma.cuh.
#pragma once

#include "Emulator.h"
#include "types.cuh"

namespace calibatt::ptx {

inline void wgmmaFence() {}
inline void wgmmaCommit() { emulator::wgmmaCommit(); }
template <int Pending> void wgmmaWait() { emulator::wgmmaWait(Pending); }
template <int N> void wgmmaPin(float (&)[N]) {}
template <int N> void wgmmaSS(float (&d)[N], u64 a, u64 b, bool accumulate) {
  emulator::wgmma(d, 2 * N, nullptr, a, b, false, accumulate);
}
template <int N> void wgmmaRS(float (&d)[N], const u32 *a, u64 b, bool accumulate) {
  emulator::wgmma(d, 2 * N, a, 0, b, true, accumulate);
}

} // namespace calibatt::ptx

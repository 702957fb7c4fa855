// Scalar instructions of the softmax and the epilogue, and the warpgroup-level
// barriers and register moves.
#pragma once

#include "types.cuh"

namespace calibatt::ptx {

/// ex2.approx.ftz: 2^x.
CALIBATT_DEVICE float exp2Approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// lg2.approx.ftz: log2(x).
CALIBATT_DEVICE float log2Approx(float x) {
  float y;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// rcp.approx.ftz: 1 / x. (A plain division is a call, and a call near wgmma is costly.)
CALIBATT_DEVICE float reciprocalApprox(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// cvt.rn.bf16x2.f32: `low` in the lower half of the word.
CALIBATT_DEVICE u32 packBf16(float low, float high) {
  u32 packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}

/// st.shared.b32
CALIBATT_DEVICE void storeShared(u32 address, u32 value) {
  asm volatile("st.shared.b32 [%0], %1;" ::"r"(address), "r"(value) : "memory");
}

/// 16 bytes: ld.global.nc, st.global, ld.shared, st.shared.
CALIBATT_DEVICE uint4 loadGlobal16(const unsigned char *address) {
  uint4 v;
  asm volatile("ld.global.nc.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(address));
  return v;
}
CALIBATT_DEVICE void storeGlobal16(unsigned char *address, uint4 v) {
  asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(address), "r"(v.x), "r"(v.y),
               "r"(v.z), "r"(v.w)
               : "memory");
}
CALIBATT_DEVICE uint4 loadShared16(u32 address) {
  uint4 v;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "r"(address)
               : "memory");
  return v;
}
/// st.shared.u8, ld.shared.u8
CALIBATT_DEVICE void storeShared8(u32 address, u32 value) {
  asm volatile("st.shared.u8 [%0], %1;" ::"r"(address), "r"(value) : "memory");
}
CALIBATT_DEVICE u32 loadShared8(u32 address) {
  u32 value;
  asm volatile("ld.shared.u8 %0, [%1];" : "=r"(value) : "r"(address) : "memory");
  return value;
}
CALIBATT_DEVICE void storeShared16(u32 address, uint4 v) {
  asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(v.x), "r"(v.y),
               "r"(v.z), "r"(v.w)
               : "memory");
}

/// ld.global.nc: data that no one writes while the kernel runs.
CALIBATT_DEVICE u32 loadConstant(const u32 *address) {
  u32 value;
  asm volatile("ld.global.nc.u32 %0, [%1];" : "=r"(value) : "l"(address));
  return value;
}

/// bar.sync among `threads` threads (a multiple of 32); id 0 is __syncthreads.
CALIBATT_DEVICE void barrierSync(u32 id, u32 threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

/// bar.arrive: as barrierSync, without waiting.
CALIBATT_DEVICE void barrierArrive(u32 id, u32 threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

/// setmaxnreg.dec / inc: a warpgroup gives back or takes registers.
template <int Count> CALIBATT_DEVICE void registersDown() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(Count));
}
template <int Count> CALIBATT_DEVICE void registersUp() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(Count));
}

} // namespace calibatt::ptx

// Global memory that a kernel itself both writes and reads, and what CTAs share.
#pragma once

#include "types.cuh"

namespace calibatt::ptx {

/// %smid: the SM this CTA runs on, a hint.
CALIBATT_DEVICE u32 smId() {
  u32 id;
  asm volatile("mov.u32 %0, %%smid;" : "=r"(id));
  return id;
}

/// atom.cas with acquire: whether the word was 0 and is now 1.
CALIBATT_DEVICE bool tryClaim(u32 *word) {
  u32 before;
  asm volatile("atom.acquire.gpu.global.cas.b32 %0, [%1], 0, 1;"
               : "=r"(before)
               : "l"(word)
               : "memory");
  return before == 0;
}

/// fence.acq_rel.gpu and st.release: the word is 0, after everything that the CTA's
/// threads did before a barrier that this one passed.
CALIBATT_DEVICE void releaseClaim(u32 *word) {
  asm volatile("fence.acq_rel.gpu;\nst.release.gpu.global.u32 [%0], 0;" ::"l"(word) : "memory");
}

/// red.relaxed.sys.global.add.u64: the host reads the word too.
CALIBATT_DEVICE void addForHost(unsigned long long *word, u32 value) {
  asm volatile("red.relaxed.sys.global.add.u64 [%0], %1;" ::"l"(word), "l"(u64(value)) : "memory");
}

/// st.global.cg: past the L1 cache.
CALIBATT_DEVICE void storeGlobal(float *address, float value) {
  asm volatile("st.global.cg.f32 [%0], %1;" ::"l"(address), "f"(value) : "memory");
}

/// ld.global.cg.v4: past the L1 cache.
CALIBATT_DEVICE float4 loadGlobal4(const float *address) {
  float4 v;
  asm volatile("ld.global.cg.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
               : "l"(address)
               : "memory");
  return v;
}

/// ld.global.nc.v2: data that no one writes while the kernel runs.
CALIBATT_DEVICE float2 loadConstant2(const float *address) {
  float2 v;
  asm volatile("ld.global.nc.v2.f32 {%0, %1}, [%2];" : "=f"(v.x), "=f"(v.y) : "l"(address));
  return v;
}

/// ld.shared.f32, ld.shared.v4.f32, st.shared.f32
CALIBATT_DEVICE float4 loadSharedFloat4(u32 address) {
  float4 v;
  asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
               : "r"(address)
               : "memory");
  return v;
}
CALIBATT_DEVICE u32 loadShared(u32 address) {
  u32 value;
  asm volatile("ld.shared.u32 %0, [%1];" : "=r"(value) : "r"(address) : "memory");
  return value;
}
CALIBATT_DEVICE void storeSharedFloat(u32 address, float value) {
  asm volatile("st.shared.f32 [%0], %1;" ::"r"(address), "f"(value) : "memory");
}

} // namespace calibatt::ptx

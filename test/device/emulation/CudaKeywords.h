// What NVRTC knows by itself and the host compiler does not. Force-included
// before a device source, never in other code: the macros would break it.
#pragma once

#include "Emulator.h"

#define __device__
#define __global__
#define __forceinline__ inline
#define __grid_constant__
#define __launch_bounds__(...)
#define __shared__
#define __align__(n) __attribute__((aligned(n)))
#define __noinline__ __attribute__((noinline))

#define threadIdx (::emulator::threadIndex())
#define blockIdx (::emulator::blockIndex())
#define gridDim (::emulator::gridSize())

struct uint4 {
  unsigned x, y, z, w;
};
struct float2 {
  float x, y;
};
struct float4 {
  float x, y, z, w;
};

inline uint32_t __shfl_sync(unsigned, uint32_t value, int lane) {
  return emulator::exchange(value)[lane];
}
inline float __shfl_xor_sync(unsigned, float value, int mask) {
  uint32_t bits, lane = emulator::threadIndex().x % 32;
  std::memcpy(&bits, &value, 4);
  bits = emulator::exchange(bits)[lane ^ mask];
  std::memcpy(&value, &bits, 4);
  return value;
}
inline double __shfl_xor_sync(unsigned, double value, int mask) {
  uint32_t words[2], lane = emulator::threadIndex().x % 32;
  std::memcpy(words, &value, 8);
  for (uint32_t &word : words)
    word = emulator::exchange(word)[lane ^ uint32_t(mask)];
  std::memcpy(&value, words, 8);
  return value;
}
inline bool __any_sync(unsigned, bool value) {
  const uint32_t *all = emulator::exchange(value);
  for (int i = 0; i < 32; ++i)
    if (all[i])
      return true;
  return false;
}
inline void __syncwarp() { emulator::exchange(0); }
inline void __syncthreads() { emulator::barrier(0, 384, true); }
inline float __int_as_float(int bits) {
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}
inline float __uint_as_float(unsigned bits) { return __int_as_float(int(bits)); }
inline long long __double_as_longlong(double value) {
  long long bits;
  std::memcpy(&bits, &value, 8);
  return bits;
}
inline double __longlong_as_double(long long bits) {
  double value;
  std::memcpy(&value, &bits, 8);
  return value;
}
inline unsigned __float_as_uint(float value) {
  unsigned bits;
  std::memcpy(&bits, &value, 4);
  return bits;
}
inline int __clz(unsigned value) { return __builtin_clz(value); }
inline size_t __cvta_generic_to_shared(const void *pointer) {
  return static_cast<const unsigned char *>(pointer) - calibatt::dynamicSmem;
}

// Model of codegen/device/ptx/global.cuh.
#pragma once

#include "Emulator.h"
#include "types.cuh"

#include <utility>

namespace calibatt::ptx {

/// Any number will do.
inline u32 smId() { return emulator::blockIndex().x * 7 + 3; }
inline bool tryClaim(u32 *word) { return std::exchange(*word, 1u) == 0; }
inline void releaseClaim(u32 *word) { *word = 0; }
inline void addForHost(unsigned long long *word, u32 value) { *word += value; }
inline void storeGlobal(float *address, float value) { *address = value; }
inline float4 loadGlobal4(const float *address) {
  float4 value;
  std::memcpy(&value, address, 16);
  return value;
}
inline float2 loadConstant2(const float *address) {
  float2 value;
  std::memcpy(&value, address, 8);
  return value;
}
inline float4 loadSharedFloat4(u32 address) {
  float4 value;
  std::memcpy(&value, dynamicSmem + address, 16);
  return value;
}
inline u32 loadShared(u32 address) {
  u32 value;
  std::memcpy(&value, dynamicSmem + address, 4);
  return value;
}
inline void storeSharedFloat(u32 address, float value) {
  std::memcpy(dynamicSmem + address, &value, 4);
}

} // namespace calibatt::ptx

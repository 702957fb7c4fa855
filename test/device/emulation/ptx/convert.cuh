// Model of codegen/device/ptx/convert.cuh.
#pragma once

#include "Emulator.h"
#include "types.cuh"

namespace calibatt::ptx {

inline float exp2Approx(float x) { return std::exp2(x); }
inline float log2Approx(float x) { return std::log2(x); }
inline float reciprocalApprox(float x) { return 1.0f / x; }
/// Round to nearest even; NaN stays NaN.
inline u32 roundBf16(float value) {
  if (std::isnan(value))
    return 0x7FFF;
  u32 bits;
  std::memcpy(&bits, &value, 4);
  return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
}
inline u32 packBf16(float low, float high) { return roundBf16(low) | roundBf16(high) << 16; }
inline void storeShared(u32 address, u32 value) { std::memcpy(dynamicSmem + address, &value, 4); }
inline uint4 loadGlobal16(const unsigned char *address) {
  uint4 value;
  std::memcpy(&value, address, 16);
  return value;
}
inline void storeGlobal16(unsigned char *address, uint4 value) { std::memcpy(address, &value, 16); }
inline uint4 loadShared16(u32 address) { return loadGlobal16(dynamicSmem + address); }
inline void storeShared16(u32 address, uint4 value) { storeGlobal16(dynamicSmem + address, value); }
inline void storeShared8(u32 address, u32 value) { dynamicSmem[address] = (unsigned char)value; }
inline u32 loadShared8(u32 address) { return dynamicSmem[address]; }
inline u32 loadConstant(const u32 *address) { return *address; }
inline void barrierSync(u32 id, u32 threads) { emulator::barrier(id, threads, true); }
inline void barrierArrive(u32 id, u32 threads) { emulator::barrier(id, threads, false); }
template <int Count> void registersDown() {}
template <int Count> void registersUp() {}

} // namespace calibatt::ptx

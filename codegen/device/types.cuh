// Fixed-width names and qualifiers; NVRTC compiles with no headers at all.
#pragma once

namespace calibatt {

using u16 = unsigned short;
using u32 = unsigned int;
using u64 = unsigned long long;

#define CALIBATT_DEVICE __device__ __forceinline__

} // namespace calibatt

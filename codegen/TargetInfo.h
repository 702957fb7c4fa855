// The architectures that kernels can be compiled for.
#pragma once

#include "runtime/format/Result.h"

#include <cstdint>
#include <string>

namespace calibatt {

/// One architecture.
struct TargetInfo {
  std::string name;           ///< what NVRTC and the package call it: "sm_90a"
  std::string fatbinName;     ///< what fatbin writers call it: "90a"
  uint32_t minNvrtcMajor = 0; ///< oldest NVRTC whose output was checked
};

/// Fails by name for every architecture there is no kernel for.
Result<TargetInfo> findTarget(const std::string &name);

} // namespace calibatt

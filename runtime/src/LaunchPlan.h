// Which kernels a call runs: one launch for each kernel its heads are routed to.
#pragma once

#include "runtime/format/Package.h"

#include <cstdint>
#include <string>
#include <vector>

namespace calibatt {

/// The heads of the model that a session serves.
struct HeadRange {
  uint32_t begin = 0, count = 0;
};

/// One kernel over some heads of a call's tensors (0 is the session's first head).
struct KernelLaunch {
  uint32_t kernel = kNone;
  uint32_t headBegin = 0, headCount = 0;
  /// Schedule head = tensor head - headBase, modulo 2^32.
  uint32_t headBase = 0;
};

/// The launches of one (layer, step).
struct LaunchPlan {
  std::vector<KernelLaunch> launches;
  std::string fallback; ///< why the dense kernel runs; empty where it does not
};

/// Layer and step have to be inside the package.
LaunchPlan planLaunches(const PackageReader &package, HeadRange heads, uint32_t layer,
                        uint32_t step);
/// The package's dense kernel over all heads of the range.
LaunchPlan planDense(const PackageReader &package, HeadRange heads, std::string reason);

} // namespace calibatt

// What ptxas says about a kernel in the compiler's log: registers, spills,
// memory, and whether it serialised the matrix instructions.
#pragma once

#include "runtime/format/Result.h"

#include <cstdint>
#include <string>
#include <vector>

namespace calibatt {

/// Resources of one kernel, with the functions it calls.
struct PtxasReport {
  uint32_t registers = 0;                   ///< per thread, of the entry
  uint32_t spillStores = 0, spillLoads = 0; ///< bytes, summed over the functions
  uint32_t stackBytes = 0;                  ///< largest frame of one function
  uint32_t staticSmem = 0;                  ///< bytes of the entry
  /// Messages C75xx except C7519 (a fence was inserted, at no cost): the wgmma
  /// of the kernel run one at a time. Not empty: a failed compile.
  std::vector<std::string> serialised;

  bool operator==(const PtxasReport &) const = default;
};

/// Reads a log written with --ptxas-options=-v. Fails where it has no register
/// count for the entry `symbol`.
Result<PtxasReport> parsePtxasLog(const std::string &log, const std::string &symbol);

} // namespace calibatt

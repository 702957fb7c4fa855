// Is the code of a package that of its manifest: the texts that kernels were compiled from, and
// what can be seen of it in the machine code.
#pragma once

#include "runtime/format/Package.h"

#include <string>
#include <vector>

namespace calibatt {

struct CodeFacts {
  uint32_t codes = 0;              ///< code images of kernels, each with its text
  std::vector<std::string> faults; ///< one at most of each
};

/// Of every code image that a kernel record names: its text has head_dim, tokens, scale and grid of
/// the problem; its symbol is the hash of its text, as the emitter makes it (codegen/README.md);
/// the machine code defines that symbol, and multiplies by the scale. Images of calibration, which
/// no record names, are left out.
Result<CodeFacts> checkCodeFacts(const PackageReader &package);

} // namespace calibatt

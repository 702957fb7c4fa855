// Machine code as text, through NVIDIA's disassembler where the machine has one.
#pragma once

#include "runtime/format/Result.h"

#include <cstdint>
#include <string>
#include <vector>

namespace calibatt {

/// SASS of the cubin in a fatbin. Runs `nvdisasm` or `cuobjdump` from PATH or the
/// CUDA toolkit; fails, saying where they were looked for, where there is neither.
Result<std::string> disassemble(const std::vector<uint8_t> &fatbin, const std::string &arch);

} // namespace calibatt

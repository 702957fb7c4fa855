// Remarks about a whole package: those of a compile, and of a merge that has to say the same.
#pragma once

#include "runtime/format/Package.h"

namespace calibatt {

/// "3 of 80 sites are repetitive".
std::string repetitionRemark(uint64_t repetitive, uint64_t sites);
/// That the compiler had to put registers into memory; empty where it had not.
std::string spillRemark(const CodeImage &image);

} // namespace calibatt

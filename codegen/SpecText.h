// A spec as the emitted text has it.
#pragma once

#include "codegen/device/spec.cuh"

#include <string>

namespace calibatt {

/// Designated initialisers in braces.
std::string specText(const AttentionSpec &spec);

} // namespace calibatt

// The fields of an AttentionSpec that are choices, not facts of the problem:
// each can be set by name, so that what a lever brings can be measured again.
#pragma once

#include "codegen/device/spec.cuh"
#include "runtime/format/Result.h"

#include <string>
#include <string_view>

namespace calibatt {

/// Sets fields of `spec` from "stages=3,lazy_rescale=0" (flags are 0 or 1). The
/// error names the field, what was found and what was wanted; then `spec` is
/// unchanged. Whether a kernel can have the values is isValid()'s to say.
Status applyTuning(AttentionSpec &spec, std::string_view text);

/// ".stages = 2, .ping_pong = true, ...": every such field as a designated initialiser.
std::string tuningText(const AttentionSpec &spec);

} // namespace calibatt

// The passes of the sattn pipeline; see Passes.td for what each does.
#pragma once

#include "ir/Sattn.h"

#include "mlir/Pass/Pass.h"

namespace calibatt {

#define GEN_PASS_DECL
#include "compiler/passes/Passes.h.inc"

#define GEN_PASS_REGISTRATION
#include "compiler/passes/Passes.h.inc"

} // namespace calibatt

// Remarks of passes: said at once as diagnostics, and kept in the module for
// the driver's report.
#pragma once

#include "mlir/IR/Operation.h"

#include <string>

namespace calibatt {

/// Emits a remark at `op` and adds it to the `sattn.remarks` of its module.
void remark(mlir::Operation *op, const std::string &text);

} // namespace calibatt

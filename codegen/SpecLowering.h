// Lowers a sattn.kernel op to the plain data that emission and packaging need.
#pragma once

#include "codegen/KernelPlan.h"
#include "runtime/format/ScheduleMasks.h"

#include "mlir/Support/LLVM.h"

#include <optional>
#include <string>
#include <vector>

namespace calibatt::sattn {
class KernelOp;
class ProblemAttr;
class RowsOp;
class SpecAttr;
} // namespace calibatt::sattn

namespace calibatt {

/// A kernel op, lowered.
struct LoweredKernel {
  KernelPlan plan;
  ScheduleMasks masks;         ///< of every form
  std::vector<uint8_t> image;  ///< Runs and Table: the data image of the masks
  std::vector<uint16_t> order; ///< schedule rows in launch order (PackageWriter::addOrder)
  uint32_t layer = 0, step = 0;
  uint32_t headBase = 0, heads = 0;
  uint64_t visits = 0;
  float predictedMicros = 0;
  uint64_t predictedCodeBytes = 0;
  float predictedCompileSeconds = 0;
  std::string target; ///< "sm_90a"
  std::string reason; ///< why choose-form took this form
  bool dense = false; ///< the package's dense fallback kernel
  /// The sites served beyond (layer, step): routes are read from sattn.route ops.
};

/// The spec attribute as the device library's struct.
AttentionSpec lowerSpec(sattn::SpecAttr attr);

/// The anchors of a problem's repetitive heads, or nothing where its frames have none to
/// compute (then such heads are computed whole).
std::optional<AnchorGrid> anchorGridOf(sattn::ProblemAttr problem);

/// Query tiles of head number `head`: fewer than rows where it is repetitive.
uint32_t tilesOfHead(sattn::RowsOp rows, uint32_t head);

/// Lowers a kernel that went through the whole pipeline. Fails with a diagnostic
/// at the op's location.
mlir::FailureOr<LoweredKernel> lowerKernel(sattn::KernelOp op);

} // namespace calibatt

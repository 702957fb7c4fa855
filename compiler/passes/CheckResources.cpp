// check-resources: what target and formats can hold.
#include "compiler/passes/Passes.h"

#include "codegen/SpecLowering.h"

#include "llvm/ADT/DenseSet.h"

using namespace mlir;

namespace calibatt {

#define GEN_PASS_DEF_CHECKRESOURCES
#include "compiler/passes/Passes.h.inc"

namespace {

/// Fails with "<what> is <got>, wanted at most <most>".
LogicalResult atMost(Operation *op, const char *what, uint64_t got, uint64_t most) {
  if (got <= most)
    return success();
  return op->emitError() << what << " is " << got << ", wanted at most " << most;
}

LogicalResult checkSpec(sattn::KernelOp kernel) {
  if (kernel.getTarget() != "sm_90a")
    return kernel.emitError() << "target is " << *kernel.getTarget()
                              << ", wanted sm_90a: there are no kernels for others yet";
  AttentionSpec spec = lowerSpec(kernel.getSpecAttr());
  if (spec.head_dim != 64 && spec.head_dim != 128)
    return kernel.emitError() << "head_dim is " << spec.head_dim << ", wanted 64 or 128";
  if (failed(atMost(kernel, "sequence length", spec.tokens, (1u << kRunTokenBits) - 1)) ||
      failed(atMost(kernel, "shared memory", smemBytes(spec), kMaxSmemBytes)))
    return failure();
  if (spec.frozen_max && !spec.persistent)
    return kernel.emitError() << "frozen_max is set without persistent: the tiles it fails for run "
                                 "again at the end of a list";
  if (!isValid(spec))
    return kernel.emitError() << "stages is " << spec.stages << " and scale " << spec.scale
                              << ", wanted 1 to 3 and more than 0";
  return success();
}

LogicalResult checkRows(sattn::KernelOp kernel, sattn::RowsOp rows) {
  // The bounds of ScheduleLayout.h: the fields of packWork, RowEntry and packRun.
  if (failed(atMost(kernel, "rows", rows.getRows(), kMaxRows)) ||
      failed(atMost(kernel, "the last head", kernel.getHeadBase() + kernel.getHeads() - 1,
                    kMaxHeads - 1)) ||
      failed(atMost(kernel, "key blocks a row", rows.getCols(), kRowVisitsMask)))
    return failure();
  if (kernel.isUnrolled() &&
      failed(atMost(kernel, "row classes", rows.getClasses(), kMaxEmittedClasses)))
    return failure();
  ArrayRef<uint16_t> runs = sattn::resourceData<uint16_t>(rows.getRunsAttr());
  for (size_t i = 1; i < runs.size(); i += 2)
    if (failed(atMost(rows, "blocks of a run", runs[i], kMaxRunBlocks)))
      return failure();
  return success();
}

LogicalResult checkKernel(sattn::KernelOp kernel, sattn::RowsOp rows) {
  if (!kernel.getForm() || !kernel.getOrderAttr())
    return kernel.emitError() << "has no " << (kernel.getForm() ? "launch order" : "form")
                              << ": check-resources comes last";
  if (kernel.isUnrolled() && kernel.getBody().empty())
    return kernel.emitError() << "of form " << sattn::stringifyKernelForm(*kernel.getForm())
                              << " has no visits: unroll-schedule comes before check-resources";
  if (failed(checkSpec(kernel)))
    return failure();
  return checkRows(kernel, rows);
}

struct CheckResourcesPass : impl::CheckResourcesBase<CheckResourcesPass> {
  using CheckResourcesBase::CheckResourcesBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    markAllAnalysesPreserved();
    sattn::ProblemAttr problem = sattn::problemOf(module);
    if (problem && problem.getMaxText() != 0) {
      module.emitError() << "max_text is " << problem.getMaxText()
                         << ", wanted 0: there are no kernels for joint text yet";
      return signalPassFailure();
    }
    SymbolTable symbols(module);
    for (auto kernel : module.getOps<sattn::KernelOp>())
      if (failed(checkKernel(kernel, symbols.lookup<sattn::RowsOp>(kernel.getRows()))))
        return signalPassFailure();
    llvm::DenseSet<std::pair<uint64_t, uint32_t>> routed;
    for (auto route : module.getOps<sattn::RouteOp>())
      routed.insert({uint64_t(route.getLayer()) << 32 | route.getHead(), route.getStep()});
    for (auto site : module.getOps<sattn::SiteOp>())
      if (!routed.contains({uint64_t(site.getLayer()) << 32 | site.getHead(), site.getStep()})) {
        site.emitError() << "layer " << site.getLayer() << " head " << site.getHead() << " step "
                         << site.getStep() << " has no route";
        return signalPassFailure();
      }
  }
};

} // namespace
} // namespace calibatt

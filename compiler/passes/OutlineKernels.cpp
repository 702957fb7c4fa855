// outline-kernels: equal kernels become one, and every site is routed.
#include "compiler/passes/Passes.h"

#include "mlir/IR/Builders.h"

#include <map>
#include <tuple>

using namespace mlir;

namespace calibatt {

#define GEN_PASS_DEF_OUTLINEKERNELS
#include "compiler/passes/Passes.h.inc"

namespace {

/// What makes two kernels of a layer one. Attributes are unique in their context;
/// the order is compared by its elements.
auto keyOf(sattn::KernelOp kernel) {
  auto pointer = [](Attribute attr) { return attr.getAsOpaquePointer(); };
  return std::tuple(kernel.getLayer(), kernel.getHeadBase(), kernel.getHeads(),
                    pointer(kernel.getRowsAttr()), pointer(kernel.getFormAttr()),
                    pointer(kernel.getTargetAttr()), pointer(kernel.getSpecAttr()),
                    sattn::resourceData<uint16_t>(kernel.getOrderAttr()).vec());
}

struct OutlineKernelsPass : impl::OutlineKernelsBase<OutlineKernelsPass> {
  using OutlineKernelsBase::OutlineKernelsBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    std::map<decltype(keyOf(sattn::KernelOp())), sattn::KernelOp> kept;
    // The kernel of (layer, step, head) before it is merged, then after.
    std::map<std::tuple<uint32_t, uint32_t, uint32_t>, sattn::KernelOp> kernelOf;
    for (auto kernel : llvm::make_early_inc_range(module.getOps<sattn::KernelOp>())) {
      if (kernel.getDense())
        continue;
      auto [it, inserted] = kept.try_emplace(keyOf(kernel), kernel);
      for (uint32_t head = 0; head < kernel.getHeads(); ++head)
        kernelOf[{kernel.getLayer(), kernel.getStep(), kernel.getHeadBase() + head}] = it->second;
      if (!inserted)
        kernel.erase();
    }
    OpBuilder builder = OpBuilder::atBlockEnd(module.getBody());
    for (auto site : llvm::to_vector(module.getOps<sattn::SiteOp>())) {
      auto it = kernelOf.find({site.getLayer(), site.getStep(), site.getHead()});
      if (it == kernelOf.end()) {
        site.emitError() << "layer " << site.getLayer() << " head " << site.getHead() << " step "
                         << site.getStep() << " has no kernel: form-rows comes before "
                         << "outline-kernels";
        return signalPassFailure();
      }
      sattn::RouteOp::create(builder, site.getLoc(), site.getLayer(), site.getHead(),
                             site.getStep(), it->second.getSymName());
    }
  }
};

} // namespace
} // namespace calibatt

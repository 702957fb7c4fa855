// unroll-schedule: the visits of full and schedule kernels, written out.
#include "compiler/passes/Passes.h"

#include "mlir/IR/Builders.h"

using namespace mlir;

namespace calibatt {

#define GEN_PASS_DEF_UNROLLSCHEDULE
#include "compiler/passes/Passes.h.inc"

namespace {

void unroll(sattn::KernelOp kernel, sattn::RowsOp rows) {
  sattn::ProblemAttr problem = sattn::problemOf(kernel);
  bool hasTail = problem && problem.hasTail();
  size_t rowBytes = sattn::maskRowBytes(rows.getCols());
  ArrayRef<uint8_t> bits = sattn::resourceData<uint8_t>(rows.getBits());
  Location loc = kernel.getLoc();
  OpBuilder builder(kernel.getContext());
  builder.createBlock(&kernel.getBody());
  for (uint32_t index = 0; index < rows.getClasses(); ++index) {
    auto rowClass = sattn::RowClassOp::create(builder, loc, index);
    OpBuilder inner(kernel.getContext());
    inner.createBlock(&rowClass.getBody());
    sattn::forEachKeptDescending(bits.slice(index * rowBytes, rowBytes), [&](uint32_t block) {
      sattn::VisitOp::create(inner, loc, block, hasTail && block == rows.getCols() - 1);
    });
  }
}

struct UnrollSchedulePass : impl::UnrollScheduleBase<UnrollSchedulePass> {
  using UnrollScheduleBase::UnrollScheduleBase;

  void runOnOperation() override {
    SymbolTable symbols(getOperation());
    for (auto kernel : getOperation().getOps<sattn::KernelOp>())
      if (kernel.isUnrolled() && kernel.getBody().empty())
        unroll(kernel, symbols.lookup<sattn::RowsOp>(kernel.getRows()));
  }
};

} // namespace
} // namespace calibatt

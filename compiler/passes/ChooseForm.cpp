// choose-form: how far each kernel is unrolled, and the spec it is compiled for.
#include "compiler/passes/Passes.h"

#include "codegen/SpecLowering.h"
#include "codegen/SpecTuning.h"
#include "compiler/CostModel.h"

#include "mlir/IR/Builders.h"
#include "llvm/ADT/DenseMap.h"

using namespace mlir;

namespace calibatt {

#define GEN_PASS_DEF_CHOOSEFORM
#include "compiler/passes/Passes.h.inc"

namespace {

ScheduleShape shapeOf(sattn::RowsOp rows, uint32_t headDim) {
  ScheduleShape shape;
  shape.headDim = headDim;
  shape.keyBlocks = rows.getCols();
  shape.classes = rows.getClasses();
  shape.classRuns = sattn::resourceData<uint16_t>(rows.getRunsAttr()).size() / 2;
  size_t rowBytes = sattn::maskRowBytes(rows.getCols());
  ArrayRef<uint8_t> bits = sattn::resourceData<uint8_t>(rows.getBits());
  std::vector<uint32_t> visits;
  for (uint32_t index = 0; index < rows.getClasses(); ++index) {
    visits.push_back(sattn::countKept(bits.slice(index * rowBytes, rowBytes)));
    shape.classVisits += visits.back();
  }
  ArrayRef<uint32_t> classOf = sattn::resourceData<uint32_t>(rows.getClassOf());
  for (uint32_t head = 0; head < rows.getHeads(); ++head)
    for (uint32_t tile = 0; tile < tilesOfHead(rows, head); ++tile)
      shape.tileVisits.push_back(visits[classOf[size_t(head) * rows.getRows() + tile]]);
  return shape;
}

struct ChooseFormPass : impl::ChooseFormBase<ChooseFormPass> {
  using ChooseFormBase::ChooseFormBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    std::optional<Form> forced;
    if (form != "auto") {
      std::optional<sattn::KernelForm> named = sattn::symbolizeKernelForm(form);
      if (!named) {
        module.emitError() << "form is '" << form
                           << "', wanted auto, full, schedule, runs or table";
        return signalPassFailure();
      }
      forced = Form(*named);
    }
    AttentionSpec tuned;
    if (Status status = applyTuning(tuned, tuning.getValue()); !status) {
      module.emitError() << status.message();
      return signalPassFailure();
    }
    UnrollBudget budget{unrollBudgetBytes, unrollBudgetSeconds};
    sattn::ProblemAttr problem = sattn::problemOf(module);
    SymbolTable symbols(module);
    // Kernels that share rows share the decision.
    llvm::DenseMap<Operation *, FormChoice> choices;
    for (auto kernel : module.getOps<sattn::KernelOp>()) {
      if (kernel.getForm())
        continue;
      auto rows = symbols.lookup<sattn::RowsOp>(kernel.getRows());
      if (!problem || !rows.getRunsAttr()) {
        kernel.emitError() << (problem ? "has no runs yet: coalesce-runs comes before choose-form"
                                       : "is in a module without a problem");
        return signalPassFailure();
      }
      FormChoice choice;
      if (kernel.getDense()) {
        choice = chooseForm(shapeOf(rows, problem.getHeadDim()), Form::Runs, budget);
        choice.reason = "the dense fallback is always runs";
      } else {
        auto [it, inserted] = choices.try_emplace(rows);
        if (inserted)
          it->second = chooseForm(shapeOf(rows, problem.getHeadDim()), forced, budget);
        choice = it->second;
      }
      if (choice.overBudget)
        kernel.emitWarning() << choice.reason;
      decide(kernel, problem, rows, tuned, choice);
    }
  }

  void decide(sattn::KernelOp kernel, sattn::ProblemAttr problem, sattn::RowsOp rows,
              const AttentionSpec &tuned, const FormChoice &choice) {
    Builder builder(&getContext());
    AnchorGrid grid;
    if (rows.getRepetitive())
      grid = anchorGridOf(problem).value_or(AnchorGrid{});
    const bool asData = choice.form == Form::Runs || choice.form == Form::Table;
    const AttentionSpec levers = asData ? tuned : withoutLists(tuned);
    auto scale = builder.getF32FloatAttr(float(problem.getScale().getValueAsDouble()));
    auto spec = sattn::SpecAttr::getChecked(
        [&] { return kernel.emitError(); }, &getContext(), problem.getHeadDim(),
        problem.getTokens(), scale, uint32_t(levers.stages), levers.ping_pong, levers.lazy_rescale,
        levers.watchdog, levers.persistent, levers.frozen_max, levers.mma_sums, grid.height,
        grid.width, grid.anchors);
    if (!spec)
      return signalPassFailure();
    kernel.setForm(sattn::KernelForm(choice.form));
    kernel.setTarget(target.getValue());
    kernel.setSpecAttr(spec);
    kernel.setReason(choice.reason);
    kernel.setPredictedMicrosAttr(builder.getF32FloatAttr(float(choice.cost.micros)));
    kernel.setCodeBytes(choice.cost.codeBytes);
    kernel.setCompileSecondsAttr(builder.getF32FloatAttr(float(choice.cost.compileSeconds)));
  }
};

} // namespace
} // namespace calibatt

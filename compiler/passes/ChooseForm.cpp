// choose-form: how far each kernel is unrolled, and the spec it is compiled for.
#include "compiler/passes/Passes.h"

#include "codegen/SpecLowering.h"
#include "codegen/SpecTuning.h"
#include "compiler/CostModel.h"

#include "mlir/IR/Builders.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/Support/FormatVariadic.h"

#include <map>

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
    if (softmax != "auto" && softmax != "frozen" && softmax != "online") {
      module.emitError() << "softmax is '" << softmax << "', wanted auto, frozen or online";
      return signalPassFailure();
    }
    for (auto site : module.getOps<sattn::SiteOp>())
      if (std::optional<llvm::APFloat> largest = site.getRowMax())
        rowMax[{site.getHead(), site.getStep()}] = largest->convertToFloat();
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
      const bool asData = choice.form == Form::Runs || choice.form == Form::Table;
      AttentionSpec levers = asData ? tuned : withoutLists(tuned);
      if (levers.frozen_max)
        levers.frozen_max = isFrozen(kernel, problem, choice.reason);
      decide(kernel, problem, rows, levers, choice);
    }
  }

  /// Whether the kernel's maximum is frozen; adds to `reason` where that is not the default.
  bool isFrozen(sattn::KernelOp kernel, sattn::ProblemAttr problem, std::string &reason) const {
    if (softmax == "online")
      reason += "; the online softmax was asked for";
    if (softmax != "auto" || kernel.getDense())
      return softmax != "online";
    // Heads have about as many tiles; a site that tells nothing is taken to need none again.
    double share = 0, largest = 0;
    for (uint32_t head = kernel.getHeadBase(); head < kernel.getHeadBase() + kernel.getHeads();
         ++head) {
      const auto found = rowMax.find({head, kernel.getStep()});
      if (found == rowMax.end())
        continue;
      share += predictedReruns(found->second, problem.getTokens()) / kernel.getHeads();
      largest = std::max(largest, double(found->second));
    }
    if (share <= kMostReruns)
      return true;
    reason += llvm::formatv("; online softmax: logits up to {0:F1} would have {1:P1} of the tiles "
                            "computed twice with a frozen maximum",
                            largest, share)
                  .str();
    return false;
  }

  void decide(sattn::KernelOp kernel, sattn::ProblemAttr problem, sattn::RowsOp rows,
              const AttentionSpec &levers, const FormChoice &choice) {
    Builder builder(&getContext());
    AnchorGrid grid;
    if (rows.getRepetitive())
      grid = anchorGridOf(problem).value_or(AnchorGrid{});
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

  std::map<std::pair<uint32_t, uint32_t>, float>
      rowMax; ///< of (head, step); the module is one layer
};

} // namespace
} // namespace calibatt

// The order of the passes, and what a driver wants to know of the result.
#include "compiler/Pipeline.h"

#include "compiler/passes/Passes.h"
#include "compiler/passes/Remarks.h"

#include "mlir/IR/Builders.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassOptions.h"
#include "mlir/Pass/PassRegistry.h"

using namespace mlir;

namespace calibatt {

namespace {

/// The options of `sattn-pipeline` on the command line of calibatt-opt.
struct PipelineFlags : PassPipelineOptions<PipelineFlags> {
  Option<std::string> form{*this, "form", llvm::cl::init("auto")};
  Option<std::string> granularity{*this, "granularity", llvm::cl::init("step")};
  Option<uint64_t> budgetBytes{*this, "unroll-budget-bytes", llvm::cl::init(65536)};
  Option<double> budgetSeconds{*this, "unroll-budget-seconds", llvm::cl::init(10.0)};
  Option<double> shareSteps{*this, "share-steps", llvm::cl::init(0.0)};
  Option<std::string> softmax{*this, "softmax", llvm::cl::init("auto")};
  Option<std::string> tuning{*this, "tuning", llvm::cl::init("")};
  Option<std::string> tileOrder{*this, "tile-order", llvm::cl::init("heads")};
};

void addPasses(OpPassManager &manager, double tau, const FormRowsOptions &rows,
               const ChooseFormOptions &choose, const OrderTilesOptions &order) {
  if (tau > 0)
    manager.addPass(createShareSteps(ShareStepsOptions{.tau = tau}));
  manager.addPass(createFormRows(rows));
  manager.addPass(createCoalesceRuns());
  manager.addPass(createChooseForm(choose));
  manager.addPass(createUnrollSchedule());
  manager.addPass(createOrderTiles(order));
  manager.addPass(createOutlineKernels());
  manager.addPass(createCheckResources());
}

} // namespace

void buildSattnPipeline(OpPassManager &manager, const PipelineOptions &options) {
  ChooseFormOptions choose;
  if (options.form)
    choose.form = sattn::stringifyKernelForm(sattn::KernelForm(*options.form)).str();
  choose.unrollBudgetBytes = options.unrollBudgetBytes;
  choose.unrollBudgetSeconds = options.unrollBudgetSeconds;
  choose.target = options.target;
  choose.softmax = options.softmax;
  choose.tuning = options.tuning;
  FormRowsOptions rows;
  rows.granularity = options.granularity == Granularity::Head ? "head" : "step";
  addPasses(manager, options.shareStepsTau, rows, choose,
            OrderTilesOptions{.order = options.tileOrder});
}

void registerSattnPipeline() {
  registerSattnPasses();
  PassPipelineRegistration<PipelineFlags>(
      "sattn-pipeline", "every pass after the import, in order",
      [](OpPassManager &manager, const PipelineFlags &flags) {
        ChooseFormOptions choose;
        choose.form = flags.form;
        choose.unrollBudgetBytes = flags.budgetBytes;
        choose.unrollBudgetSeconds = flags.budgetSeconds;
        choose.softmax = flags.softmax;
        choose.tuning = flags.tuning;
        addPasses(manager, flags.shareSteps, FormRowsOptions{.granularity = flags.granularity},
                  choose, OrderTilesOptions{.order = flags.tileOrder});
      });
}

void remark(Operation *op, const std::string &text) {
  op->emitRemark() << text;
  ModuleOp module = op->getParentOfType<ModuleOp>();
  StringRef name = sattn::SattnDialect::getRemarksAttrName();
  SmallVector<Attribute> remarks;
  if (auto known = module->getAttrOfType<ArrayAttr>(name))
    llvm::append_range(remarks, known);
  remarks.push_back(StringAttr::get(op->getContext(), text));
  module->setAttr(name, ArrayAttr::get(op->getContext(), remarks));
}

std::vector<std::string> remarksOf(ModuleOp module) {
  std::vector<std::string> texts;
  if (auto remarks = module->getAttrOfType<ArrayAttr>(sattn::SattnDialect::getRemarksAttrName()))
    for (auto text : remarks.getAsRange<StringAttr>())
      texts.push_back(text.str());
  return texts;
}

std::string describeLocation(Location location) {
  if (auto named = dyn_cast<NameLoc>(location)) {
    std::string inner = describeLocation(named.getChildLoc());
    return inner.empty() ? named.getName().str() : inner + ": " + named.getName().str();
  }
  if (auto file = dyn_cast<FileLineColLoc>(location)) {
    std::string text = file.getFilename().str();
    if (file.getLine() != 0)
      text += ":" + std::to_string(file.getLine()) + ":" + std::to_string(file.getColumn());
    return text;
  }
  return "";
}

std::string moduleText(ModuleOp module, bool withRowData) {
  std::string text;
  llvm::raw_string_ostream stream(text);
  OpPrintingFlags flags;
  if (!withRowData)
    flags.elideLargeResourceString(0);
  module->print(stream, flags);
  return text;
}

} // namespace calibatt

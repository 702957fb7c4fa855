// Import, passes, lowering and printing of one module in a context of its own.
#include "compiler/LayerLowering.h"

#include "calib_profiles/Profile.h"
#include "codegen/SpecLowering.h"
#include "compiler/Pipeline.h"
#include "ir/Sattn.h"

#include "mlir/IR/MLIRContext.h"
#include "mlir/Pass/PassManager.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/Support/raw_ostream.h"

using namespace mlir;

namespace calibatt {

namespace {

/// "P.calib.safetensors: layer 3 head 1 step 7: what is wrong".
std::string locatedText(Diagnostic &diagnostic) {
  std::string where = describeLocation(diagnostic.getLocation());
  return where.empty() ? diagnostic.str() : where + ": " + diagnostic.str();
}

/// Keeps the errors of one context as text, and tells everything else as it comes.
class Diagnostics {
public:
  Diagnostics(MLIRContext &context, const CompileEvents &events)
      : handler(&context, [this, &events](Diagnostic &diagnostic) {
          switch (diagnostic.getSeverity()) {
          case DiagnosticSeverity::Error:
            if (!text.empty())
              text += '\n';
            text += locatedText(diagnostic);
            break;
          case DiagnosticSeverity::Warning:
            if (events.warning)
              events.warning(locatedText(diagnostic));
            break;
          case DiagnosticSeverity::Remark:
            // Its own text names the site, as it does in the report.
            if (events.layerRemark)
              events.layerRemark(diagnostic.str());
            break;
          case DiagnosticSeverity::Note:
            break;
          }
          return success();
        }) {}

  Error error(const char *what) const { return Error{text.empty() ? what : text}; }

private:
  ScopedDiagnosticHandler handler;
  std::string text;
};

PipelineOptions pipelineOptions(const CompileOptions &options) {
  PipelineOptions pipeline;
  pipeline.form = options.form;
  pipeline.granularity = options.perHead ? Granularity::Head : Granularity::Step;
  pipeline.unrollBudgetBytes = options.unrollBudgetBytes;
  pipeline.unrollBudgetSeconds = options.unrollBudgetSeconds;
  pipeline.shareStepsTau = options.shareStepsTau;
  pipeline.target = options.arch;
  pipeline.tuning = options.tuning;
  pipeline.tileOrder = options.tileOrder;
  return pipeline;
}

LayerKernel finishKernel(const LoweredKernel &lowered) {
  LayerKernel kernel;
  kernel.symbol = kernelSymbol(lowered.plan);
  kernel.cuda = emitKernel(lowered.plan);
  kernel.form = lowered.plan.form;
  kernel.dynamicSmem = uint32_t(smemBytes(lowered.plan.spec));
  kernel.persistent = lowered.plan.spec.persistent;
  if (kernel.form == Form::Runs || kernel.form == Form::Table)
    kernel.data = buildScheduleImage(lowered.schedule, kernel.form);
  kernel.order = lowered.order;
  kernel.record.layer = lowered.dense ? kNone : lowered.layer;
  kernel.record.step = lowered.dense ? kNone : lowered.step;
  kernel.record.headBase = lowered.headBase;
  kernel.record.heads = lowered.heads;
  kernel.record.visits = lowered.visits;
  kernel.record.predictedMicros = lowered.predictedMicros;
  kernel.record.reason = lowered.reason;
  kernel.predictedCodeBytes = lowered.predictedCodeBytes;
  kernel.predictedSeconds = lowered.predictedCompileSeconds;
  return kernel;
}

/// Runs the passes on an imported module and takes what a package needs.
Result<LoweredLayer> finishModule(ModuleOp module, const CompileOptions &options,
                                  const Diagnostics &diagnostics) {
  PassManager manager(module.getContext());
  buildSattnPipeline(manager, pipelineOptions(options));
  if (failed(manager.run(module)))
    return diagnostics.error("the passes failed without saying why");

  LoweredLayer layer;
  llvm::DenseMap<StringRef, size_t> kernels;
  for (auto op : module.getOps<sattn::KernelOp>()) {
    FailureOr<LoweredKernel> lowered = lowerKernel(op);
    if (failed(lowered))
      return diagnostics.error("a kernel could not be lowered");
    kernels[op.getSymName()] = layer.kernels.size();
    layer.kernels.push_back(finishKernel(*lowered));
  }
  for (auto op : module.getOps<sattn::RouteOp>())
    layer.routes.push_back({op.getHead(), op.getStep(), kernels.lookup(op.getKernel())});
  layer.ir = moduleText(module);
  layer.remarks = remarksOf(module);
  return layer;
}

} // namespace

Result<LoweredLayer> lowerLayer(const ProfileReader &profile, uint32_t layer,
                                const CompileOptions &options, const CompileEvents &events) {
  MLIRContext context(MLIRContext::Threading::DISABLED);
  Diagnostics diagnostics(context, events);
  FailureOr<OwningOpRef<ModuleOp>> module = importLayer(profile, layer, context);
  if (failed(module))
    return diagnostics.error("the import failed without saying why");
  return finishModule(**module, options, diagnostics);
}

Result<LoweredLayer> lowerDenseKernel(const ProfileReader &profile, const CompileOptions &options,
                                      const CompileEvents &events) {
  MLIRContext context(MLIRContext::Threading::DISABLED);
  Diagnostics diagnostics(context, events);
  OwningOpRef<ModuleOp> module = buildDenseModule(profile.header(), profile.path(), context);
  if (!module)
    return diagnostics.error("no dense kernel, and no reason");
  // A forced form, shared steps and one kernel a head are of sites; this one has none.
  CompileOptions dense = options;
  dense.form.reset();
  dense.shareStepsTau = 0;
  dense.perHead = false;
  auto layer = finishModule(*module, dense, diagnostics);
  if (layer && layer->kernels.size() != 1)
    return Error{profile.path() + ": the dense module has " +
                 std::to_string(layer->kernels.size()) + " kernels, wanted 1"};
  return layer;
}

} // namespace calibatt

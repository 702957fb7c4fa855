// Import, passes, lowering and printing of one module in a context of its own.
#include "compiler/LayerLowering.h"

#include "calib_profiles/Profile.h"
#include "codegen/SpecLowering.h"
#include "compiler/Pipeline.h"
#include "ir/Sattn.h"
#include "runtime/format/Zstd.h"

#include "mlir/IR/MLIRContext.h"
#include "mlir/IR/Verifier.h"
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

/// Keeps the errors and warnings of one context as text. Remarks are in the module.
class Diagnostics {
public:
  Diagnostics(MLIRContext &context, const std::string &path)
      : handler(&context, [this, &path](Diagnostic &diagnostic) {
          const std::string located = locatedText(diagnostic);
          if (diagnostic.getSeverity() == DiagnosticSeverity::Error)
            text += text.empty() ? located : '\n' + located;
          else if (diagnostic.getSeverity() == DiagnosticSeverity::Warning)
            warnings.push_back(located.starts_with(path) ? located.substr(path.size())
                                                         : ": " + located);
          return success();
        }) {}

  Error error(const char *what) const { return Error{text.empty() ? what : text}; }
  std::vector<std::string> takeWarnings() { return std::move(warnings); }

private:
  ScopedDiagnosticHandler handler;
  std::string text;
  std::vector<std::string> warnings;
};

PipelineOptions pipelineOptions(const CompileOptions &options) {
  PipelineOptions pipeline;
  pipeline.form = options.form;
  pipeline.granularity = options.perHead ? Granularity::Head : Granularity::Step;
  pipeline.unrollBudgetBytes = options.unrollBudgetBytes;
  pipeline.unrollBudgetSeconds = options.unrollBudgetSeconds;
  pipeline.shareStepsTau = options.shareStepsTau;
  pipeline.target = options.arch;
  pipeline.softmax = options.softmax;
  pipeline.tuning = options.tuning;
  pipeline.tileOrder = options.tileOrder;
  return pipeline;
}

Result<LayerKernel> finishKernel(LoweredKernel lowered, TileOrder rule,
                                 ScheduleEncoder &schedules) {
  LayerKernel kernel;
  kernel.symbol = kernelSymbol(lowered.plan);
  kernel.cuda = emitKernel(lowered.plan);
  kernel.form = lowered.plan.form;
  kernel.dynamicSmem = uint32_t(smemBytes(lowered.plan.spec));
  kernel.persistent = lowered.plan.spec.persistent;
  if (!lowered.image.empty()) {
    if (lowered.order == orderTiles(rule, rowVisits(lowered.image), lowered.masks.blocks())) {
      kernel.record.orderRule = rule;
      lowered.order.clear();
    }
    Result<uint32_t> stored =
        schedules.add(std::move(lowered.masks), lowered.image, lowered.headBase);
    if (!stored)
      return stored.takeError();
    kernel.schedule = *stored;
    kernel.dataBytes = lowered.image.size();
  }
  kernel.order = std::move(lowered.order);
  kernel.record.layer = lowered.dense ? kNone : lowered.layer;
  kernel.record.step = lowered.dense ? kNone : lowered.step;
  kernel.record.headBase = lowered.headBase;
  kernel.record.heads = lowered.heads;
  kernel.record.visits = lowered.visits;
  kernel.record.predictedMicros = lowered.predictedMicros;
  kernel.record.reason = std::move(lowered.reason);
  kernel.predictedCodeBytes = lowered.predictedCodeBytes;
  kernel.predictedSeconds = lowered.predictedCompileSeconds;
  return kernel;
}

/// Runs the passes on an imported module and takes what a package needs.
Result<LoweredLayer> finishModule(ModuleOp module, const CompileOptions &options,
                                  Diagnostics &diagnostics) {
  LoweredLayer layer;
  auto count = [&](auto ops) { return uint64_t(std::distance(ops.begin(), ops.end())); };
  layer.dedup.sites = count(module.getOps<sattn::SiteOp>());
  layer.dedup.profileMasks = count(module.getOps<sattn::MaskOp>());
  PassManager manager(module.getContext());
  // Once at the end instead of after each pass: row data are most of a compile's bytes.
  manager.enableVerifier(false);
  buildSattnPipeline(manager, pipelineOptions(options));
  if (failed(manager.run(module)) || failed(verify(module)))
    return diagnostics.error("the passes failed without saying why");

  layer.dedup.masks = count(module.getOps<sattn::MaskOp>());
  for (auto rows : module.getOps<sattn::RowsOp>()) {
    layer.dedup.rows += uint64_t(rows.getHeads()) * rows.getRows();
    layer.dedup.rowClasses += rows.getClasses();
  }
  ScheduleEncoder schedules;
  const TileOrder rule = options.tileOrder == "heads" ? TileOrder::Heads : TileOrder::Longest;
  llvm::DenseMap<StringRef, size_t> kernels;
  for (auto op : module.getOps<sattn::KernelOp>()) {
    FailureOr<LoweredKernel> lowered = lowerKernel(op);
    if (failed(lowered))
      return diagnostics.error("a kernel could not be lowered");
    kernels[op.getSymName()] = layer.kernels.size();
    Result<LayerKernel> kernel = finishKernel(std::move(*lowered), rule, schedules);
    if (!kernel)
      return kernel.takeError();
    layer.kernels.push_back(kernel.take());
  }
  layer.schedules = schedules.take();
  for (auto op : module.getOps<sattn::RouteOp>())
    layer.routes.push_back({op.getHead(), op.getStep(), kernels.lookup(op.getKernel())});
  const std::string ir = moduleText(module);
  Result<CompressedItem> storedIr =
      compressItem(std::span(reinterpret_cast<const uint8_t *>(ir.data()), ir.size()));
  if (!storedIr)
    return storedIr.takeError();
  layer.storedIr = storedIr.take();
  layer.remarks = remarksOf(module);
  layer.warnings = diagnostics.takeWarnings();
  return layer;
}

} // namespace

Result<LoweredLayer> lowerLayer(const ProfileReader &profile, uint32_t layer,
                                const CompileOptions &options) {
  MLIRContext context(MLIRContext::Threading::DISABLED);
  Diagnostics diagnostics(context, profile.path());
  FailureOr<OwningOpRef<ModuleOp>> module = importLayer(profile, layer, context);
  if (failed(module))
    return diagnostics.error("the import failed without saying why");
  return finishModule(**module, options, diagnostics);
}

Result<LoweredLayer> lowerDenseKernel(const ProfileReader &profile, const CompileOptions &options) {
  MLIRContext context(MLIRContext::Threading::DISABLED);
  Diagnostics diagnostics(context, profile.path());
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

Result<std::string> irText(const LoweredLayer &layer) {
  const CompressedItem &item = layer.storedIr;
  auto text = zstdDecompress(std::span(item.frame).first(item.frameBytes), item.rawBytes, "IR");
  if (!text)
    return text.takeError();
  return std::string(text->begin(), text->end());
}

} // namespace calibatt

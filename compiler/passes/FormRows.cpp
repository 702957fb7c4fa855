// form-rows: masks become row classes, and the kernels that walk them.
#include "codegen/SpecLowering.h"
#include "compiler/passes/Passes.h"
#include "compiler/passes/Remarks.h"

#include "runtime/format/Quantity.h"

#include "mlir/IR/Builders.h"
#include "llvm/ADT/MapVector.h"
#include "llvm/ADT/StringMap.h"

#include <fmt/format.h>

#include <map>

using namespace mlir;

namespace calibatt {

#define GEN_PASS_DEF_FORMROWS
#include "compiler/passes/Passes.h.inc"

namespace {

/// The sites of one kernel: consecutive heads of one (layer, step).
using Group = SmallVector<sattn::SiteOp>;

/// Makes sattn.rows, one for every distinct list of masks.
class RowsBuilder {
public:
  RowsBuilder(ModuleOp module, sattn::ProblemAttr problem)
      : symbols(module), problem(problem), builder(OpBuilder::atBlockEnd(module.getBody())) {}

  sattn::RowsOp get(const Group &group) {
    // A null attribute stands for a repetitive site, which is dense.
    std::vector<const void *> key;
    for (sattn::SiteOp site : group)
      key.push_back(Attribute(site.getMaskAttr()).getAsOpaquePointer());
    sattn::RowsOp &rows = known[key];
    if (!rows)
      rows = make(group);
    return rows;
  }

private:
  sattn::RowsOp make(const Group &group);

  SymbolTable symbols;
  sattn::ProblemAttr problem;
  OpBuilder builder;
  std::map<std::vector<const void *>, sattn::RowsOp> known;
};

sattn::RowsOp RowsBuilder::make(const Group &group) {
  uint32_t blocks = problem.getBlocks();
  size_t rowBytes = sattn::maskRowBytes(blocks);
  std::vector<uint8_t> dense(rowBytes, 0xFF);
  if (blocks % 8 != 0)
    dense.back() = uint8_t((1u << blocks % 8) - 1);

  // Without anchors to compute a repetitive head is a dense one.
  const bool copyAnchors = anchorGridOf(problem).has_value();
  std::vector<int32_t> repetitive;
  for (sattn::SiteOp site : group)
    if (copyAnchors && !site.getMaskAttr())
      repetitive.push_back(int32_t(site.getHead() - sattn::SiteOp(group.front()).getHead()));

  llvm::StringMap<uint32_t> classes;
  std::vector<uint32_t> classOf;
  std::vector<uint8_t> bits;
  for (sattn::SiteOp site : group) {
    ArrayRef<uint8_t> mask;
    if (site.getMaskAttr())
      mask = sattn::resourceData<uint8_t>(symbols.lookup<sattn::MaskOp>(*site.getMask()).getBits());
    for (uint32_t q = 0; q < blocks; ++q) {
      ArrayRef<uint8_t> row = mask.empty() ? ArrayRef(dense) : mask.slice(q * rowBytes, rowBytes);
      auto [it, inserted] = classes.try_emplace(
          StringRef(reinterpret_cast<const char *>(row.data()), rowBytes), classes.size());
      if (inserted)
        bits.insert(bits.end(), row.begin(), row.end());
      classOf.push_back(it->second);
    }
  }
  std::string name = fmt::format("rows_{}", known.size() - 1);
  MLIRContext *context = builder.getContext();
  sattn::SiteOp first = group.front();
  return sattn::RowsOp::create(
      builder, first.getLoc(), builder.getStringAttr(name), uint32_t(group.size()), blocks, blocks,
      classes.size(), sattn::makeResource<uint32_t>(context, name + "_class_of", classOf),
      sattn::makeResource<uint8_t>(context, name + "_bits", bits),
      repetitive.empty() ? nullptr : builder.getDenseI32ArrayAttr(repetitive), /*runs=*/nullptr,
      /*begins=*/nullptr);
}

struct FormRowsPass : impl::FormRowsBase<FormRowsPass> {
  using FormRowsBase::FormRowsBase;

  void reportRepetitive(ModuleOp module, sattn::ProblemAttr problem);

  void runOnOperation() override {
    ModuleOp module = getOperation();
    if (granularity != "step" && granularity != "head") {
      module.emitError() << "granularity is '" << granularity << "', wanted step or head";
      return signalPassFailure();
    }
    auto sites = llvm::to_vector(module.getOps<sattn::SiteOp>());
    if (sites.empty())
      return;
    sattn::ProblemAttr problem = sattn::problemOf(module);
    if (!problem) {
      module.emitError() << "the module has sites, but no attribute '"
                         << sattn::SattnDialect::getProblemAttrName() << "'";
      return signalPassFailure();
    }
    bool byHead = granularity == "head";
    std::map<std::tuple<uint32_t, uint32_t, uint32_t>, Group> groups;
    for (sattn::SiteOp site : sites)
      groups[{site.getLayer(), site.getStep(), byHead ? site.getHead() : 0}].push_back(site);

    RowsBuilder rows(module, problem);
    OpBuilder builder = OpBuilder::atBlockEnd(module.getBody());
    for (auto &[key, group] : groups) {
      llvm::sort(group, [](sattn::SiteOp a, sattn::SiteOp b) { return a.getHead() < b.getHead(); });
      sattn::SiteOp first = group.front();
      for (size_t i = 0; i < group.size(); ++i)
        if (group[i].getHead() != first.getHead() + i) {
          group[i].emitError() << "the heads of layer " << first.getLayer() << " step "
                               << first.getStep() << " go on with " << group[i].getHead()
                               << ", wanted " << first.getHead() + i
                               << ": a kernel covers consecutive heads";
          return signalPassFailure();
        }
      std::string name = byHead ? fmt::format("kernel_l{}_h{}_s{}", first.getLayer(),
                                              first.getHead(), first.getStep())
                                : fmt::format("kernel_l{}_s{}", first.getLayer(), first.getStep());
      Location loc = first.getLoc();
      // A kernel for all heads is at no one head's location.
      if (auto named = dyn_cast<NameLoc>(loc); named && !byHead)
        loc = NameLoc::get(builder.getStringAttr(
                               fmt::format("layer {} step {}", first.getLayer(), first.getStep())),
                           named.getChildLoc());
      sattn::RowsOp groupRows = rows.get(group);
      sattn::KernelOp::create(builder, loc, name, first.getLayer(), first.getStep(),
                              first.getHead(), groupRows);
    }
    reportRepetitive(module, problem);
  }
};

/// One remark a (layer, head): there may be thousands of sites.
void FormRowsPass::reportRepetitive(ModuleOp module, sattn::ProblemAttr problem) {
  llvm::MapVector<std::pair<uint32_t, uint32_t>, Group> heads;
  for (auto site : module.getOps<sattn::SiteOp>())
    if (!site.getMaskAttr())
      heads[{site.getLayer(), site.getHead()}].push_back(site);
  std::optional<AnchorGrid> grid = anchorGridOf(problem);
  std::string how =
      grid ? fmt::format("computes {} of {} spatial rows a frame", grid->anchors, grid->height)
           : fmt::format("compiled as dense: {} anchor rows do not fit frames of {} x {}",
                         problem.getAnchors(), problem.getHeight(), problem.getWidth());
  for (auto &[key, group] : heads)
    remark(group.front(),
           fmt::format("layer {} head {}: repetitive in {} from step {} on, {}", key.first,
                       key.second, counted(group.size(), "step"), group.front().getStep(), how));
}

} // namespace
} // namespace calibatt

// share-steps: neighbouring steps with nearly equal masks compute their union.
#include "compiler/passes/Passes.h"
#include "compiler/passes/Remarks.h"

#include "calib_profiles/StepSharing.h"
#include "runtime/format/Quantity.h"

#include "mlir/IR/Builders.h"
#include "llvm/ADT/DenseSet.h"
#include "llvm/ADT/MapVector.h"

#include <fmt/format.h>

using namespace mlir;

namespace calibatt {

#define GEN_PASS_DEF_SHARESTEPS
#include "compiler/passes/Passes.h.inc"

namespace {

BlockMask toBlockMask(sattn::MaskOp op) {
  BlockMask mask(op.getRows(), op.getCols());
  llvm::copy(sattn::resourceData<uint8_t>(op.getBits()), mask.bytes().begin());
  return mask;
}

struct ShareStepsPass : impl::ShareStepsBase<ShareStepsPass> {
  using ShareStepsBase::ShareStepsBase;

  /// `sites`: the sites with masks of one head, by step, no step left out.
  void shareHead(ArrayRef<sattn::SiteOp> sites, SymbolTable &symbols);

  void runOnOperation() override {
    ModuleOp module = getOperation();
    if (!(tau > 0 && tau <= 1)) {
      module.emitError() << "tau is " << double(tau) << ", wanted more than 0, at most 1";
      return signalPassFailure();
    }
    SymbolTable symbols(module);
    llvm::MapVector<std::pair<uint32_t, uint32_t>, SmallVector<sattn::SiteOp>> heads;
    for (auto site : module.getOps<sattn::SiteOp>())
      heads[{site.getLayer(), site.getHead()}].push_back(site);
    for (auto &[key, sites] : heads) {
      llvm::sort(sites, [](sattn::SiteOp a, sattn::SiteOp b) { return a.getStep() < b.getStep(); });
      // Steps that are missing or repetitive part the groups.
      for (size_t begin = 0, end; begin < sites.size(); begin = end) {
        end = begin + 1;
        if (!sites[begin].getMaskAttr())
          continue;
        while (end < sites.size() && sites[end].getMaskAttr() &&
               sites[end].getStep() == sites[end - 1].getStep() + 1)
          ++end;
        shareHead(ArrayRef(sites).slice(begin, end - begin), symbols);
      }
    }
    // Masks that no site uses any more have no further use.
    llvm::DenseSet<Attribute> used;
    for (auto site : module.getOps<sattn::SiteOp>())
      used.insert(site.getMaskAttr());
    for (auto mask : llvm::make_early_inc_range(module.getOps<sattn::MaskOp>()))
      if (!used.contains(FlatSymbolRefAttr::get(mask.getSymNameAttr())))
        symbols.erase(mask);
  }
};

void ShareStepsPass::shareHead(ArrayRef<sattn::SiteOp> sites, SymbolTable &symbols) {
  std::vector<BlockMask> masks;
  std::vector<const BlockMask *> stepMasks;
  masks.reserve(sites.size());
  stepMasks.reserve(sites.size());
  for (sattn::SiteOp site : sites)
    masks.push_back(toBlockMask(symbols.lookup<sattn::MaskOp>(*site.getMask())));
  for (const BlockMask &mask : masks)
    stepMasks.push_back(&mask);
  StepGroups groups = shareSteps(stepMasks, tau);

  double before = 0, after = 0;
  std::vector<FlatSymbolRefAttr> shared(groups.masks.size());
  for (size_t i = 0; i < sites.size(); ++i) {
    sattn::SiteOp site = sites[i];
    uint32_t group = groups.stepGroup[i];
    const BlockMask &mask = groups.masks[group];
    before += masks[i].density();
    after += mask.density();
    if (!shared[group] && mask == masks[i])
      shared[group] = site.getMaskAttr();
    if (!shared[group]) {
      OpBuilder builder(symbols.lookup<sattn::MaskOp>(*site.getMask()));
      auto op = sattn::MaskOp::create(
          builder, site.getLoc(), builder.getStringAttr("shared_mask"), mask.rows(), mask.cols(),
          sattn::makeResource<uint8_t>(&getContext(), "shared_mask",
                                       ArrayRef(mask.bytes().data(), mask.bytes().size())));
      shared[group] = FlatSymbolRefAttr::get(symbols.insert(op));
    }
    site.setMaskAttr(shared[group]);
  }
  sattn::SiteOp first = sites.front(), last = sites.back();
  if (groups.masks.size() < sites.size())
    remark(first, fmt::format("layer {} head {}: steps {} to {} share {}, mean density {:.4f} "
                              "to {:.4f}",
                              first.getLayer(), first.getHead(), first.getStep(), last.getStep(),
                              counted(groups.masks.size(), "mask"), before / double(sites.size()),
                              after / double(sites.size())));
}

} // namespace
} // namespace calibatt

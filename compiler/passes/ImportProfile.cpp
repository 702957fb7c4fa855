// import-profile: one layer of a profile becomes masks and sites.
#include "compiler/passes/Passes.h"

#include "calib_profiles/Profile.h"
#include "compiler/Pipeline.h"

#include "mlir/IR/Builders.h"
#include "llvm/ADT/StringMap.h"

#include <fmt/format.h>

using namespace mlir;

namespace calibatt {

#define GEN_PASS_DEF_IMPORTPROFILE
#include "compiler/passes/Passes.h.inc"

namespace {

/// A name, not a line: diagnostics then print the names around it, which are the site's.
Location profileLocation(MLIRContext *context, const std::string &path) {
  return NameLoc::get(StringAttr::get(context, path));
}

/// Null after a diagnostic.
sattn::ProblemAttr makeProblem(Location loc, const ProfileHeader &header) {
  MLIRContext *context = loc.getContext();
  if (header.tokens() > UINT32_MAX) {
    emitError(loc) << "the profile has " << header.tokens() << " tokens, wanted at most "
                   << UINT32_MAX;
    return {};
  }
  Builder builder(context);
  return sattn::ProblemAttr::getChecked(
      [&] { return emitError(loc); }, context, StringRef(header.model), header.grid.frames,
      header.grid.height, header.grid.width, uint32_t(header.tokens()), header.maxText,
      header.layers, header.heads, header.stepCount(), header.headDim, header.blockSize,
      builder.getF64FloatAttr(header.scale), header.criterion.anchors);
}

LogicalResult importInto(ModuleOp module, const ProfileReader &reader, uint32_t layer) {
  MLIRContext *context = module.getContext();
  const ProfileHeader &header = reader.header();
  Location fileLoc = profileLocation(context, reader.path());
  sattn::ProblemAttr problem = makeProblem(fileLoc, header);
  if (!problem)
    return failure();
  if (layer >= header.layers)
    return emitError(fileLoc) << "layer " << layer << " is not one of the profile's "
                              << header.layers;
  module->setAttr(sattn::SattnDialect::getProblemAttrName(), problem);

  OpBuilder masks = OpBuilder::atBlockBegin(module.getBody());
  OpBuilder sites = OpBuilder::atBlockEnd(module.getBody());
  // Equal masks of the layer are one op; the first site that uses one is its location.
  llvm::StringMap<FlatSymbolRefAttr> known;
  for (uint32_t head = 0; head < header.heads; ++head) {
    Result<HeadProfile> profile = reader.head(layer, head);
    if (!profile)
      return emitError(NameLoc::get(
                 masks.getStringAttr(fmt::format("layer {} head {}", layer, head)), fileLoc))
             << profile.message();
    for (uint32_t step = 0; step < header.stepCount(); ++step) {
      std::string name = fmt::format("layer {} head {} step {}", layer, head, step);
      Location loc = NameLoc::get(masks.getStringAttr(name), fileLoc);
      const SiteStats &stats = profile->stats[step];
      FlatSymbolRefAttr symbol;
      if (!reader.isRepetitive(layer, head, step)) {
        const BlockMask &mask = profile->masks[profile->stepMask[step]];
        std::span<const uint8_t> bytes = mask.bytes();
        auto [it, inserted] = known.try_emplace(
            StringRef(reinterpret_cast<const char *>(bytes.data()), bytes.size()));
        if (inserted) {
          std::string maskName = fmt::format("mask_{}", known.size() - 1);
          sattn::MaskOp::create(masks, loc, masks.getStringAttr(maskName), mask.rows(), mask.cols(),
                                sattn::makeResource<uint8_t>(context, maskName,
                                                             ArrayRef(bytes.data(), bytes.size())));
          it->second = FlatSymbolRefAttr::get(context, maskName);
        }
        symbol = it->second;
      }
      // Profiles that were imported from masks alone have 0.
      FloatAttr rowMax = stats.rowMax != 0 ? sites.getF32FloatAttr(stats.rowMax) : FloatAttr();
      sattn::SiteOp::create(sites, loc, layer, head, step, symbol, llvm::APFloat(stats.keptMass),
                            llvm::APFloat(stats.density), llvm::APFloat(stats.repetition), rowMax);
    }
  }
  return success();
}

struct ImportProfilePass : impl::ImportProfileBase<ImportProfilePass> {
  using ImportProfileBase::ImportProfileBase;

  void runOnOperation() override {
    ModuleOp module = getOperation();
    if (!module.getBody()->empty()) {
      module.emitError() << "the module has ops already, wanted an empty one to import into";
      return signalPassFailure();
    }
    Result<ProfileReader> reader = ProfileReader::open(path);
    if (!reader) {
      emitError(profileLocation(&getContext(), path)) << reader.message();
      return signalPassFailure();
    }
    if (failed(importInto(module, *reader, layer)))
      signalPassFailure();
  }
};

} // namespace

static void prepare(MLIRContext &context) {
  context.loadDialect<sattn::SattnDialect>();
  // A kernel op may hold thousands of visits: too long to repeat in a message.
  context.printOpOnDiagnostic(false);
}

FailureOr<OwningOpRef<ModuleOp>> importLayer(const ProfileReader &reader, uint32_t layer,
                                             MLIRContext &context) {
  prepare(context);
  Location loc = NameLoc::get(StringAttr::get(&context, fmt::format("layer {}", layer)),
                              profileLocation(&context, reader.path()));
  OwningOpRef<ModuleOp> module = ModuleOp::create(loc);
  if (failed(importInto(*module, reader, layer)))
    return failure();
  return module;
}

OwningOpRef<ModuleOp> buildDenseModule(const ProfileHeader &header, const std::string &profilePath,
                                       MLIRContext &context) {
  prepare(context);
  Location loc = NameLoc::get(StringAttr::get(&context, "dense kernel"),
                              profileLocation(&context, profilePath));
  sattn::ProblemAttr problem = makeProblem(loc, header);
  if (!problem)
    return {};
  OwningOpRef<ModuleOp> module = ModuleOp::create(loc);
  (*module)->setAttr(sattn::SattnDialect::getProblemAttrName(), problem);
  uint32_t blocks = problem.getBlocks();
  BlockMask row = BlockMask::dense(1, blocks);
  std::vector<uint32_t> classOf(size_t(blocks) * header.heads, 0);
  OpBuilder builder = OpBuilder::atBlockBegin(module->getBody());
  auto rows = sattn::RowsOp::create(
      builder, loc, builder.getStringAttr("dense_rows"), header.heads, blocks, blocks,
      /*classes=*/1, sattn::makeResource<uint32_t>(&context, "dense_class_of", classOf),
      sattn::makeResource<uint8_t>(&context, "dense_bits",
                                   ArrayRef(row.bytes().data(), row.bytes().size())),
      /*repetitive=*/nullptr, /*runs=*/nullptr, /*begins=*/nullptr);
  auto kernel = sattn::KernelOp::create(builder, loc, "dense", /*layer=*/0, /*step=*/0,
                                        /*headBase=*/0, rows);
  kernel.setDense(true);
  return module;
}

} // namespace calibatt

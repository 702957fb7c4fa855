// Registers the dialect; checks what concerns a module as a whole.
#include "ir/Sattn.h"

#include "mlir/IR/AsmState.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"
#include "mlir/IR/DialectResourceBlobManager.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/TypeSwitch.h"

#include <cstring>

#include "ir/SattnDialect.cpp.inc"

#include "ir/SattnEnums.cpp.inc"

#define GET_ATTRDEF_CLASSES
#include "ir/SattnAttrs.cpp.inc"

using namespace mlir;

namespace calibatt::sattn {

void SattnDialect::initialize() {
  addAttributes<
#define GET_ATTRDEF_LIST
#include "ir/SattnAttrs.cpp.inc"
      >();
  addOperations<
#define GET_OP_LIST
#include "ir/SattnOps.cpp.inc"
      >();
}

namespace {

/// No two ops of one kind name the same site (site [4], route [3]).
template <typename OpTy> LogicalResult checkUnique(ModuleOp module) {
  llvm::DenseMap<std::pair<uint64_t, uint32_t>, Operation *> seen;
  for (OpTy op : module.getOps<OpTy>()) {
    std::pair<uint64_t, uint32_t> key{uint64_t(op.getLayer()) << 32 | op.getHead(), op.getStep()};
    auto [it, inserted] = seen.try_emplace(key, op);
    if (inserted)
      continue;
    InFlightDiagnostic error = op.emitOpError()
                               << "is the second of layer " << op.getLayer() << " head "
                               << op.getHead() << " step " << op.getStep();
    error.attachNote(it->second->getLoc()) << "the first is here";
    return error;
  }
  return success();
}

} // namespace

LogicalResult SattnDialect::verifyOperationAttribute(Operation *op, NamedAttribute attr) {
  auto module = dyn_cast<ModuleOp>(op);
  if (!module)
    return op->emitOpError() << "has attribute '" << attr.getName().getValue()
                             << "', which belongs on a module";
  if (attr.getName() == getProblemAttrName()) {
    if (!isa<ProblemAttr>(attr.getValue()))
      return op->emitOpError() << "attribute '" << getProblemAttrName()
                               << "' is not a #sattn.problem";
    return success(succeeded(checkUnique<SiteOp>(module)) &&
                   succeeded(checkUnique<RouteOp>(module)));
  }
  if (attr.getName() == getRemarksAttrName()) {
    auto remarks = dyn_cast<ArrayAttr>(attr.getValue());
    if (!remarks || !llvm::all_of(remarks, llvm::IsaPred<StringAttr>))
      return op->emitOpError() << "attribute '" << getRemarksAttrName()
                               << "' is not an array of strings";
    return success();
  }
  return op->emitOpError() << "has unknown attribute '" << attr.getName().getValue() << "'";
}

LogicalResult ProblemAttr::verify(function_ref<InFlightDiagnostic()> emitError, StringRef,
                                  uint32_t frames, uint32_t height, uint32_t width, uint32_t tokens,
                                  uint32_t maxText, uint32_t layers, uint32_t heads, uint32_t steps,
                                  uint32_t headDim, uint32_t block, FloatAttr scale, uint32_t) {
  // [1] The vocabulary has one block size.
  if (block != 128)
    return emitError() << "block is " << block << ", wanted 128";
  // [2] Layers, heads, steps and head_dim are at least 1.
  if (layers == 0 || heads == 0 || steps == 0 || headDim == 0)
    return emitError() << "layers " << layers << ", heads " << heads << ", steps " << steps
                       << ", head_dim " << headDim << ": wanted at least 1 each";
  // [3] tokens = frames * height * width + max_text, at least 1.
  unsigned __int128 wanted = (unsigned __int128)(frames)*height * width + maxText;
  if (tokens == 0 || wanted != tokens)
    return emitError() << "tokens is " << tokens << ", but the grid " << frames << "x" << height
                       << "x" << width << " with " << maxText << " text tokens has "
                       << (wanted > UINT64_MAX ? UINT64_MAX : uint64_t(wanted));
  // [4] The scale is a positive number.
  double value = scale.getValueAsDouble();
  if (!scale.getType().isF64() || !(value > 0) || !scale.getValue().isFinite())
    return emitError() << "scale is " << scale << ", wanted a positive f64";
  return success();
}

LogicalResult SpecAttr::verify(function_ref<InFlightDiagnostic()> emitError, uint32_t headDim,
                               uint32_t tokens, FloatAttr scale, uint32_t stages, bool, bool, bool,
                               bool, bool, bool, uint32_t, uint32_t, uint32_t) {
  // [1] Sizes are at least 1. What a target can run is check-resources' business.
  if (headDim == 0 || tokens == 0 || stages == 0)
    return emitError() << "head_dim " << headDim << ", tokens " << tokens << ", stages " << stages
                       << ": wanted at least 1 each";
  // [2] The scale is a positive number.
  if (!scale.getType().isF32() || !(scale.getValueAsDouble() > 0) || !scale.getValue().isFinite())
    return emitError() << "scale is " << scale << ", wanted a positive f32";
  return success();
}

ProblemAttr problemOf(Operation *op) {
  ModuleOp module = dyn_cast<ModuleOp>(op);
  if (!module)
    module = op->getParentOfType<ModuleOp>();
  return module ? module->getAttrOfType<ProblemAttr>(SattnDialect::getProblemAttrName())
                : ProblemAttr();
}

template <typename T>
DenseResourceElementsAttr makeResource(MLIRContext *context, StringRef name, ArrayRef<T> data) {
  auto type = RankedTensorType::get({int64_t(data.size())},
                                    IntegerType::get(context, unsigned(8 * sizeof(T))));
  return DenseResourceElementsAttr::get(
      type, name, HeapAsmResourceBlob::allocateAndCopyInferAlign<T>(data, false));
}

template <typename T> ArrayRef<T> resourceData(DenseResourceElementsAttr attr) {
  AsmResourceBlob *blob = attr ? attr.getRawHandle().getBlob() : nullptr;
  return blob ? blob->getDataAs<T>() : ArrayRef<T>();
}

template DenseResourceElementsAttr makeResource<uint8_t>(MLIRContext *, StringRef,
                                                         ArrayRef<uint8_t>);
template DenseResourceElementsAttr makeResource<uint16_t>(MLIRContext *, StringRef,
                                                          ArrayRef<uint16_t>);
template DenseResourceElementsAttr makeResource<uint32_t>(MLIRContext *, StringRef,
                                                          ArrayRef<uint32_t>);
template ArrayRef<uint8_t> resourceData<uint8_t>(DenseResourceElementsAttr);
template ArrayRef<uint16_t> resourceData<uint16_t>(DenseResourceElementsAttr);
template ArrayRef<uint32_t> resourceData<uint32_t>(DenseResourceElementsAttr);

uint32_t countKept(ArrayRef<uint8_t> row) {
  uint32_t kept = 0;
  // Without the library call that a baseline x86-64 build makes of std::popcount.
  for (; !row.empty(); row = row.drop_front(std::min<size_t>(row.size(), 8))) {
    uint64_t word = 0;
    std::memcpy(&word, row.data(), std::min<size_t>(row.size(), 8));
    word -= word >> 1 & 0x5555555555555555u;
    word = (word & 0x3333333333333333u) + (word >> 2 & 0x3333333333333333u);
    word = (word + (word >> 4)) & 0x0F0F0F0F0F0F0F0Fu;
    kept += uint32_t(word * 0x0101010101010101u >> 56);
  }
  return kept;
}

} // namespace calibatt::sattn

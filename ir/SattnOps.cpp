// Verifiers of what a kernel is made from: masks, sites, rows, routes. The
// numbers are those of the constraints in SattnOps.td.
#include "ir/SattnVerify.h"

#include "mlir/IR/AsmState.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectResourceBlobManager.h"

#define GET_OP_CLASSES
#include "ir/SattnOps.cpp.inc"

using namespace mlir;

namespace calibatt::sattn {

LogicalResult checkResource(Operation *op, StringRef field, DenseResourceElementsAttr attr,
                            unsigned bits, uint64_t count) {
  auto type = dyn_cast<RankedTensorType>(attr.getType());
  if (!type || type.getRank() != 1 || !type.getElementType().isSignlessInteger(bits) ||
      uint64_t(type.getDimSize(0)) != count)
    return op->emitOpError() << field << " is " << attr.getType() << ", wanted tensor<" << count
                             << "xi" << bits << ">";
  AsmResourceBlob *blob = attr.getRawHandle().getBlob();
  uint64_t bytes = blob ? blob->getData().size() : 0;
  if (bytes % (bits / 8) != 0 || bytes / (bits / 8) != count)
    return op->emitOpError() << field << " resource '" << attr.getRawHandle().getKey() << "' has "
                             << bytes << " bytes, wanted " << count << " times " << bits / 8;
  if (blob->getDataAlignment() < bits / 8)
    return op->emitOpError() << field << " resource '" << attr.getRawHandle().getKey()
                             << "' is aligned to " << blob->getDataAlignment() << " bytes, wanted "
                             << bits / 8;
  return success();
}

LogicalResult checkMaskRows(Operation *op, StringRef what, ArrayRef<uint8_t> bits, uint64_t count,
                            uint32_t cols) {
  size_t rowBytes = maskRowBytes(cols);
  unsigned used = cols % 8;
  for (uint64_t row = 0; row < count; ++row) {
    ArrayRef<uint8_t> bytes = bits.slice(row * rowBytes, rowBytes);
    if (used != 0 && bytes.back() >> used != 0)
      return op->emitOpError() << what << " " << row << " has a bit set beyond its " << cols
                               << " columns";
    if (llvm::all_of(bytes, [](uint8_t byte) { return byte == 0; }))
      return op->emitOpError() << what << " " << row << " keeps 0 of " << cols
                               << " key blocks, wanted at least 1";
  }
  return success();
}

LogicalResult checkSite(Operation *op, uint32_t layer, uint32_t head, uint32_t step) {
  ProblemAttr problem = problemOf(op);
  if (!problem)
    return success();
  if (layer >= problem.getLayers())
    return op->emitOpError() << "layer " << layer << " is not one of the problem's "
                             << problem.getLayers();
  if (head >= problem.getHeads())
    return op->emitOpError() << "head " << head << " is not one of the problem's "
                             << problem.getHeads();
  if (step >= problem.getSteps())
    return op->emitOpError() << "step " << step << " is not one of the problem's "
                             << problem.getSteps();
  return success();
}

LogicalResult MaskOp::verify() {
  // [1] There are blocks.
  if (getRows() == 0 || getCols() == 0)
    return emitOpError() << "is " << getRows() << " x " << getCols() << ", wanted at least 1 x 1";
  // [2] The bits are there.
  if (failed(checkResource(*this, "bits", getBits(), 8, getRows() * maskRowBytes(getCols()))))
    return failure();
  // [3] No stray bits, [4] no empty row.
  if (failed(checkMaskRows(*this, "row", resourceData<uint8_t>(getBits()), getRows(), getCols())))
    return failure();
  // [5] The shape is the problem's.
  ProblemAttr problem = problemOf(*this);
  if (problem && (getRows() != problem.getBlocks() || getCols() != problem.getBlocks()))
    return emitOpError() << "is " << getRows() << " x " << getCols() << ", but "
                         << problem.getTokens() << " tokens have " << problem.getBlocks()
                         << " blocks";
  return success();
}

LogicalResult SiteOp::verify() {
  // [1] The site exists.
  if (failed(checkSite(*this, getLayer(), getHead(), getStep())))
    return failure();
  // [2] Shares are shares. Negated comparisons also catch NaN.
  float kept = getKept().convertToFloat(), density = getDensity().convertToFloat();
  if (!(kept >= 0 && kept <= 1))
    return emitOpError() << "kept mass is " << getKeptAttr().getValueAsDouble()
                         << ", wanted 0 to 1";
  if (!(density > 0 && density <= 1))
    return emitOpError() << "density is " << getDensityAttr().getValueAsDouble()
                         << ", wanted more than 0, at most 1";
  return success();
}

LogicalResult SiteOp::verifySymbolUses(SymbolTableCollection &symbols) {
  // [3] The symbol is a mask.
  if (getMaskAttr() && !symbols.lookupNearestSymbolFrom<MaskOp>(*this, getMaskAttr()))
    return emitOpError() << "symbol " << getMaskAttr() << " is not a sattn.mask";
  return success();
}

namespace {

/// [5]: the runs of one class fall, do not overlap, and cover exactly `row`.
LogicalResult checkRuns(RowsOp op, uint32_t index, ArrayRef<uint16_t> runs, ArrayRef<uint8_t> row) {
  uint32_t above = op.getCols(), covered = 0;
  for (size_t i = 0; i + 1 < runs.size(); i += 2) {
    uint32_t first = runs[i], blocks = runs[i + 1];
    if (blocks == 0 || first + blocks > above)
      return op.emitOpError() << "class " << index << " has a run of " << blocks
                              << (blocks == 1 ? " block" : " blocks") << " from block " << first
                              << ", wanted at least 1 block, ending at or before block " << above;
    for (uint32_t block = first; block < first + blocks; ++block)
      if (!(row[block / 8] >> (block % 8) & 1))
        return op.emitOpError() << "class " << index << " has a run over block " << block
                                << ", which it does not keep";
    above = first;
    covered += blocks;
  }
  if (covered != countKept(row))
    return op.emitOpError() << "class " << index << " has runs of " << covered
                            << " blocks, but keeps " << countKept(row);
  return success();
}

} // namespace

LogicalResult RowsOp::verify() {
  // [1] There are rows.
  if (getHeads() == 0 || getRows() == 0 || getCols() == 0 || getClasses() == 0)
    return emitOpError() << "has " << getHeads() << " heads, " << getRows() << " rows, "
                         << getCols() << " cols, " << getClasses()
                         << " classes, wanted at least 1 each";
  // [2] Every row has a class.
  uint64_t rowCount = uint64_t(getHeads()) * getRows();
  if (failed(checkResource(*this, "class_of", getClassOf(), 32, rowCount)))
    return failure();
  ArrayRef<uint32_t> classOf = resourceData<uint32_t>(getClassOf());
  for (uint64_t row = 0; row < rowCount; ++row)
    if (classOf[row] >= getClasses())
      return emitOpError() << "row " << row << " is of class " << classOf[row] << ", but there are "
                           << getClasses();
  // [6] A repetitive head has one class.
  if (std::optional<ArrayRef<int32_t>> repetitive = getRepetitive()) {
    for (size_t i = 0; i < repetitive->size(); ++i) {
      int64_t head = (*repetitive)[i], before = i ? (*repetitive)[i - 1] : -1;
      if (head <= before || head >= getHeads())
        return emitOpError() << "repetitive head " << head << " after " << before << " of "
                             << getHeads() << " heads, wanted rising ones";
      ArrayRef<uint32_t> classes = classOf.slice(head * getRows(), getRows());
      if (!llvm::all_equal(classes))
        return emitOpError() << "rows of repetitive head " << head << " are of several classes";
    }
  }
  // [3] Every class keeps something.
  size_t rowBytes = maskRowBytes(getCols());
  if (failed(checkResource(*this, "bits", getBits(), 8, getClasses() * rowBytes)))
    return failure();
  ArrayRef<uint8_t> bits = resourceData<uint8_t>(getBits());
  if (failed(checkMaskRows(*this, "class", bits, getClasses(), getCols())))
    return failure();
  // [4] Runs and where they begin.
  if (bool(getRunsAttr()) != bool(getBeginsAttr()))
    return emitOpError() << "has " << (getRunsAttr() ? "runs but no begins" : "begins but no runs");
  if (!getRunsAttr())
    return success();
  auto runsType = dyn_cast<RankedTensorType>(getRunsAttr().getType());
  uint64_t words = runsType && runsType.getRank() == 1 ? runsType.getDimSize(0) : 0;
  if (words % 2 != 0)
    return emitOpError() << "runs has " << words << " words, wanted pairs";
  if (failed(checkResource(*this, "runs", getRunsAttr(), 16, words)) ||
      failed(checkResource(*this, "begins", getBeginsAttr(), 32, uint64_t(getClasses()) + 1)))
    return failure();
  ArrayRef<uint16_t> runs = resourceData<uint16_t>(getRunsAttr());
  ArrayRef<uint32_t> begins = resourceData<uint32_t>(getBeginsAttr());
  if (begins.front() != 0 || begins.back() != words / 2)
    return emitOpError() << "begins goes from " << begins.front() << " to " << begins.back()
                         << ", wanted 0 to " << words / 2;
  for (uint32_t index = 0; index < getClasses(); ++index) {
    uint32_t begin = begins[index], end = begins[index + 1];
    if (begin > end || end > words / 2)
      return emitOpError() << "class " << index << " has runs " << begin << " to " << end
                           << ", wanted a rising range within " << words / 2;
    // [5] The runs are the bits.
    if (failed(checkRuns(*this, index, runs.slice(2 * size_t(begin), 2 * size_t(end - begin)),
                         bits.slice(index * rowBytes, rowBytes))))
      return failure();
  }
  return success();
}

LogicalResult RouteOp::verify() {
  // [1] The site exists.
  return checkSite(*this, getLayer(), getHead(), getStep());
}

LogicalResult RouteOp::verifySymbolUses(SymbolTableCollection &symbols) {
  // [2] The kernel is of this layer and covers the head.
  auto kernel = symbols.lookupNearestSymbolFrom<KernelOp>(*this, getKernelAttr());
  if (!kernel)
    return emitOpError() << "symbol " << getKernelAttr() << " is not a sattn.kernel";
  if (!kernel.getDense() && kernel.getLayer() != getLayer())
    return emitOpError() << "is of layer " << getLayer() << ", but " << getKernelAttr()
                         << " is of layer " << kernel.getLayer();
  if (getHead() < kernel.getHeadBase() || getHead() - kernel.getHeadBase() >= kernel.getHeads())
    return emitOpError() << "is of head " << getHead() << ", but " << getKernelAttr() << " covers "
                         << kernel.getHeads()
                         << (kernel.getHeads() == 1 ? " head from " : " heads from ")
                         << kernel.getHeadBase();
  return success();
}

} // namespace calibatt::sattn

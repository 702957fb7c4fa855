// Verifiers of sattn.kernel and its region. The numbers are those of the
// constraints in SattnOps.td.
#include "ir/SattnVerify.h"

#include "llvm/ADT/BitVector.h"

using namespace mlir;

namespace calibatt::sattn {

void KernelOp::build(OpBuilder &, OperationState &state, StringRef name, uint32_t layer,
                     uint32_t step, uint32_t headBase, RowsOp rows) {
  MLIRContext *context = state.getContext();
  Properties &properties = state.getOrAddProperties<Properties>();
  auto integer = [&](uint32_t value) {
    return IntegerAttr::get(IntegerType::get(context, 32), value);
  };
  properties.sym_name = StringAttr::get(context, name);
  properties.layer = integer(layer);
  properties.step = integer(step);
  properties.head_base = integer(headBase);
  properties.heads = integer(rows.getHeads());
  properties.rows = FlatSymbolRefAttr::get(rows.getSymNameAttr());
  state.addRegion();
}

LogicalResult KernelOp::verify() {
  // [1] The heads exist, and so do layer and step.
  uint64_t headEnd = uint64_t(getHeadBase()) + getHeads();
  if (getHeads() == 0)
    return emitOpError() << "covers 0 heads, wanted at least 1";
  if (failed(checkSite(*this, getLayer(), getHeadBase(), getStep())))
    return failure();
  ProblemAttr problem = problemOf(*this);
  if (problem && headEnd > problem.getHeads())
    return emitOpError() << "covers " << getHeads()
                         << (getHeads() == 1 ? " head from " : " heads from ") << getHeadBase()
                         << ", but the problem has " << problem.getHeads();
  // [2] choose-form sets all of these.
  if (bool(getFormAttr()) != bool(getTargetAttr()) || bool(getFormAttr()) != bool(getSpecAttr()))
    return emitOpError() << "has form, target and spec " << bool(getFormAttr()) << ", "
                         << bool(getTargetAttr()) << ", " << bool(getSpecAttr())
                         << ", wanted all or none";
  // [3] Only unrolled forms have visits.
  if (!getBody().empty() && !isUnrolled())
    return emitOpError() << "has a region, but form "
                         << (getForm() ? stringifyKernelForm(*getForm()) : "none")
                         << ", wanted full or schedule";
  if (!getSpecAttr() || !problem)
    return success();
  // [9] The spec is the problem's.
  SpecAttr spec = getSpecAttr();
  if (spec.getTokens() != problem.getTokens())
    return emitOpError() << "has a spec for " << spec.getTokens() << " tokens, but the problem has "
                         << problem.getTokens();
  if (spec.getHeadDim() != problem.getHeadDim())
    return emitOpError() << "has a spec for head_dim " << spec.getHeadDim()
                         << ", but the problem has " << problem.getHeadDim();
  if (spec.getScale().getValue().convertToFloat() != float(problem.getScale().getValueAsDouble()))
    return emitOpError() << "has a spec with scale " << spec.getScale().getValueAsDouble()
                         << ", but the problem has " << problem.getScale().getValueAsDouble();
  return success();
}

LogicalResult RowClassOp::verify() {
  // [1] A row computes something.
  size_t visits = 0;
  for (Operation &op : getBody().front()) {
    if (!isa<VisitOp>(op))
      return emitOpError() << "holds '" << op.getName() << "', wanted only sattn.visit";
    ++visits;
  }
  if (visits == 0)
    return emitOpError() << "holds 0 visits, wanted at least 1";
  return success();
}

namespace {

/// [5], [6]: the visits of one class are its key blocks from the last to the first.
LogicalResult checkVisits(RowClassOp op, ArrayRef<uint8_t> row, uint32_t cols, bool hasTail) {
  auto visit = op.getBody().getOps<VisitOp>().begin();
  auto end = op.getBody().getOps<VisitOp>().end();
  LogicalResult result = success();
  forEachKeptDescending(row, [&](uint32_t block) {
    if (failed(result))
      return;
    if (visit == end) {
      result = op.emitOpError() << "ends before key block " << block << " of class "
                                << op.getIndex();
      return;
    }
    if ((*visit).getBlock() != block) {
      result = (*visit).emitOpError() << "is of key block " << (*visit).getBlock() << ", wanted "
                                      << block << " of class " << op.getIndex();
      return;
    }
    bool tail = hasTail && block == cols - 1;
    if ((*visit).getTail() != tail) {
      result = (*visit).emitOpError() << "of key block " << block
                                      << (tail ? " is not marked tail, but that block is short"
                                               : " is marked tail, but that block is whole");
      return;
    }
    ++visit;
  });
  if (failed(result))
    return result;
  if (visit != end)
    return (*visit).emitOpError() << "is of key block " << (*visit).getBlock() << ", but class "
                                  << op.getIndex() << " has no more";
  return success();
}

LogicalResult checkOrder(KernelOp op, uint64_t rows) {
  if (failed(checkResource(op, "order", op.getOrderAttr(), 16, rows)))
    return failure();
  llvm::BitVector seen(rows);
  for (uint16_t row : resourceData<uint16_t>(op.getOrderAttr())) {
    if (row >= rows)
      return op.emitOpError() << "order names row " << row << ", but there are " << rows;
    if (seen.test(row))
      return op.emitOpError() << "order names row " << row << " twice";
    seen.set(row);
  }
  return success();
}

} // namespace

LogicalResult KernelOp::verifySymbolUses(SymbolTableCollection &symbols) {
  // [8] The schedule is of these heads.
  auto rows = symbols.lookupNearestSymbolFrom<RowsOp>(*this, getRowsAttr());
  if (!rows)
    return emitOpError() << "symbol " << getRowsAttr() << " is not a sattn.rows";
  if (rows.getHeads() != getHeads())
    return emitOpError() << "covers " << getHeads()
                         << (getHeads() == 1 ? " head, but " : " heads, but ") << getRowsAttr()
                         << " has " << rows.getHeads();
  ProblemAttr problem = problemOf(*this);
  if (problem && (rows.getRows() != problem.getBlocks() || rows.getCols() != problem.getBlocks()))
    return emitOpError() << "walks " << getRowsAttr() << " of " << rows.getRows() << " x "
                         << rows.getCols() << " blocks, but " << problem.getTokens()
                         << " tokens have " << problem.getBlocks();
  // [7] Every tile is launched once. The rows have been checked before: symbols are
  // verified after all ops of the module.
  if (getOrderAttr() && failed(checkOrder(*this, uint64_t(rows.getHeads()) * rows.getRows())))
    return failure();
  if (getBody().empty())
    return success();
  // [4] The region is the schedule.
  size_t rowBytes = maskRowBytes(rows.getCols());
  ArrayRef<uint8_t> bits = resourceData<uint8_t>(rows.getBits());
  uint32_t index = 0;
  for (Operation &inner : getBody().front()) {
    auto rowClass = dyn_cast<RowClassOp>(inner);
    if (!rowClass)
      return emitOpError() << "holds '" << inner.getName() << "', wanted only sattn.row_class";
    if (rowClass.getIndex() != index || index >= rows.getClasses())
      return rowClass.emitOpError() << "has index " << rowClass.getIndex() << ", wanted " << index
                                    << " of " << rows.getClasses();
    if (failed(checkVisits(rowClass, bits.slice(index * rowBytes, rowBytes), rows.getCols(),
                           problem && problem.hasTail())))
      return failure();
    ++index;
  }
  if (index != rows.getClasses())
    return emitOpError() << "holds " << index << " row classes, but " << getRowsAttr() << " has "
                         << rows.getClasses();
  return success();
}

} // namespace calibatt::sattn

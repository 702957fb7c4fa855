// order-tiles: which tile is launched when.
#include "compiler/passes/Passes.h"

#include "llvm/ADT/DenseMap.h"

#include <numeric>

using namespace mlir;

namespace calibatt {

#define GEN_PASS_DEF_ORDERTILES
#include "compiler/passes/Passes.h.inc"

namespace {

/// Row ids in launch order. Ids are head-major, and the sorts are stable: rows
/// of one length stay in the order of their queries.
std::vector<uint16_t> orderOf(sattn::RowsOp rows, bool headByHead) {
  size_t rowBytes = sattn::maskRowBytes(rows.getCols());
  ArrayRef<uint8_t> bits = sattn::resourceData<uint8_t>(rows.getBits());
  std::vector<uint32_t> visits;
  for (uint32_t index = 0; index < rows.getClasses(); ++index)
    visits.push_back(sattn::countKept(bits.slice(index * rowBytes, rowBytes)));
  ArrayRef<uint32_t> classOf = sattn::resourceData<uint32_t>(rows.getClassOf());
  std::vector<uint16_t> order(classOf.size());
  std::iota(order.begin(), order.end(), uint16_t(0));
  auto longer = [&](uint16_t a, uint16_t b) { return visits[classOf[a]] > visits[classOf[b]]; };
  if (!headByHead) {
    llvm::stable_sort(order, longer);
    return order;
  }
  std::vector<uint64_t> headVisits(rows.getHeads());
  for (size_t row = 0; row < classOf.size(); ++row)
    headVisits[row / rows.getRows()] += visits[classOf[row]];
  llvm::stable_sort(order, [&](uint16_t a, uint16_t b) {
    uint32_t headA = a / rows.getRows(), headB = b / rows.getRows();
    if (headA == headB)
      return longer(a, b);
    return headVisits[headA] != headVisits[headB] ? headVisits[headA] > headVisits[headB]
                                                  : headA < headB;
  });
  return order;
}

struct OrderTilesPass : impl::OrderTilesBase<OrderTilesPass> {
  using OrderTilesBase::OrderTilesBase;

  void runOnOperation() override {
    if (order != "heads" && order != "longest") {
      getOperation().emitError() << "order is '" << order << "', wanted heads or longest";
      return signalPassFailure();
    }
    SymbolTable symbols(getOperation());
    llvm::DenseMap<Operation *, DenseResourceElementsAttr> orders;
    for (auto kernel : getOperation().getOps<sattn::KernelOp>()) {
      if (kernel.getOrderAttr())
        continue;
      auto rows = symbols.lookup<sattn::RowsOp>(kernel.getRows());
      uint64_t count = uint64_t(rows.getHeads()) * rows.getRows();
      if (count > uint64_t(UINT16_MAX) + 1) {
        kernel.emitError() << "has " << count << " query tiles, but a launch order holds at most "
                           << uint32_t(UINT16_MAX) + 1;
        return signalPassFailure();
      }
      DenseResourceElementsAttr &tiles = orders[rows];
      if (!tiles)
        tiles = sattn::makeResource<uint16_t>(&getContext(), (rows.getSymName() + "_order").str(),
                                              orderOf(rows, order == "heads"));
      kernel.setOrderAttr(tiles);
    }
  }
};

} // namespace
} // namespace calibatt

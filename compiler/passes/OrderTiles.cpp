// order-tiles: longest tiles first.
#include "compiler/passes/Passes.h"

#include "llvm/ADT/DenseMap.h"

#include <numeric>

using namespace mlir;

namespace calibatt {

#define GEN_PASS_DEF_ORDERTILES
#include "compiler/passes/Passes.h.inc"

namespace {

/// Row ids by falling number of visits; ids are head-major, so that a stable
/// sort keeps equal rows head by head.
std::vector<uint16_t> orderOf(sattn::RowsOp rows) {
  size_t rowBytes = sattn::maskRowBytes(rows.getCols());
  ArrayRef<uint8_t> bits = sattn::resourceData<uint8_t>(rows.getBits());
  std::vector<uint32_t> visits;
  for (uint32_t index = 0; index < rows.getClasses(); ++index)
    visits.push_back(sattn::countKept(bits.slice(index * rowBytes, rowBytes)));
  ArrayRef<uint32_t> classOf = sattn::resourceData<uint32_t>(rows.getClassOf());
  std::vector<uint16_t> order(classOf.size());
  std::iota(order.begin(), order.end(), uint16_t(0));
  llvm::stable_sort(
      order, [&](uint16_t a, uint16_t b) { return visits[classOf[a]] > visits[classOf[b]]; });
  return order;
}

struct OrderTilesPass : impl::OrderTilesBase<OrderTilesPass> {
  using OrderTilesBase::OrderTilesBase;

  void runOnOperation() override {
    SymbolTable symbols(getOperation());
    llvm::DenseMap<Operation *, DenseResourceElementsAttr> orders;
    for (auto kernel : getOperation().getOps<sattn::KernelOp>()) {
      if (kernel.getOrderAttr())
        continue;
      auto rows = symbols.lookup<sattn::RowsOp>(kernel.getRows());
      uint64_t tiles = uint64_t(rows.getHeads()) * rows.getRows();
      if (tiles > uint64_t(UINT16_MAX) + 1) {
        kernel.emitError() << "has " << tiles << " query tiles, but a launch order holds at most "
                           << uint32_t(UINT16_MAX) + 1;
        return signalPassFailure();
      }
      DenseResourceElementsAttr &order = orders[rows];
      if (!order)
        order = sattn::makeResource<uint16_t>(&getContext(), (rows.getSymName() + "_order").str(),
                                              orderOf(rows));
      kernel.setOrderAttr(order);
    }
  }
};

} // namespace
} // namespace calibatt

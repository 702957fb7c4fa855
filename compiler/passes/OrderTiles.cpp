// order-tiles: which tile is launched when.
#include "compiler/passes/Passes.h"

#include "codegen/SpecLowering.h"
#include "runtime/format/TileOrder.h"

#include "llvm/ADT/DenseMap.h"

using namespace mlir;

namespace calibatt {

#define GEN_PASS_DEF_ORDERTILES
#include "compiler/passes/Passes.h.inc"

namespace {

/// Row ids in launch order. Ids are head-major.
std::vector<uint16_t> orderOf(sattn::RowsOp rows, TileOrder rule) {
  size_t rowBytes = sattn::maskRowBytes(rows.getCols());
  ArrayRef<uint8_t> bits = sattn::resourceData<uint8_t>(rows.getBits());
  std::vector<uint32_t> classVisits;
  classVisits.reserve(rows.getClasses());
  for (uint32_t index = 0; index < rows.getClasses(); ++index)
    classVisits.push_back(sattn::countKept(bits.slice(index * rowBytes, rowBytes)));
  ArrayRef<uint32_t> classOf = sattn::resourceData<uint32_t>(rows.getClassOf());
  std::vector<uint32_t> visits(classOf.size());
  for (uint32_t head = 0; head < rows.getHeads(); ++head)
    for (uint32_t tile = 0, tiles = tilesOfHead(rows, head); tile < tiles; ++tile) {
      size_t row = size_t(head) * rows.getRows() + tile;
      visits[row] = classVisits[classOf[row]];
    }
  return orderTiles(rule, visits, rows.getRows());
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
        tiles = sattn::makeResource<uint16_t>(
            &getContext(), (rows.getSymName() + "_order").str(),
            orderOf(rows, order == "heads" ? TileOrder::Heads : TileOrder::Longest));
      kernel.setOrderAttr(tiles);
    }
  }
};

} // namespace
} // namespace calibatt

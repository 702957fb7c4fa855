// coalesce-runs: the consecutive key blocks of every row class.
#include "compiler/passes/Passes.h"

#include "runtime/format/ScheduleLayout.h"

using namespace mlir;

namespace calibatt {

#define GEN_PASS_DEF_COALESCERUNS
#include "compiler/passes/Passes.h.inc"

namespace {

/// Appends (first block, blocks) of every run of `row`, from the last to the first.
void appendRuns(ArrayRef<uint8_t> row, std::vector<uint16_t> &runs) {
  size_t begin = runs.size();
  sattn::forEachKeptDescending(row, [&](uint32_t block) {
    if (runs.size() > begin) {
      uint16_t &first = runs[runs.size() - 2], &blocks = runs.back();
      if (block + 1 == first && blocks < kMaxRunBlocks) {
        --first;
        ++blocks;
        return;
      }
    }
    runs.push_back(uint16_t(block));
    runs.push_back(1);
  });
}

struct CoalesceRunsPass : impl::CoalesceRunsBase<CoalesceRunsPass> {
  using CoalesceRunsBase::CoalesceRunsBase;

  void runOnOperation() override {
    for (auto op : getOperation().getOps<sattn::RowsOp>()) {
      if (op.getRunsAttr())
        continue;
      if (op.getCols() > UINT16_MAX) {
        op.emitError() << "rows have " << op.getCols() << " key blocks, wanted at most "
                       << UINT16_MAX;
        return signalPassFailure();
      }
      size_t rowBytes = sattn::maskRowBytes(op.getCols());
      ArrayRef<uint8_t> bits = sattn::resourceData<uint8_t>(op.getBits());
      std::vector<uint16_t> runs;
      std::vector<uint32_t> begins = {0};
      for (uint32_t index = 0; index < op.getClasses(); ++index) {
        appendRuns(bits.slice(index * rowBytes, rowBytes), runs);
        begins.push_back(uint32_t(runs.size() / 2));
      }
      std::string name = op.getSymName().str();
      op.setRunsAttr(sattn::makeResource<uint16_t>(&getContext(), name + "_runs", runs));
      op.setBeginsAttr(sattn::makeResource<uint32_t>(&getContext(), name + "_begins", begins));
    }
  }
};

} // namespace
} // namespace calibatt

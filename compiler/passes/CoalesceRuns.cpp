// coalesce-runs: the consecutive key blocks of every row class.
#include "compiler/passes/Passes.h"

#include "runtime/format/ScheduleLayout.h"

#include "llvm/ADT/bit.h"

using namespace mlir;

namespace calibatt {

#define GEN_PASS_DEF_COALESCERUNS
#include "compiler/passes/Passes.h.inc"

namespace {

/// Appends (first block, blocks) of every run of `row`, from the last to the first. Eight bytes of
/// the row at a time, because a model has hundreds of millions of visits.
void appendRuns(ArrayRef<uint8_t> row, std::vector<uint16_t> &runs) {
  size_t first = runs.size();
  for (size_t end = row.size(); end > 0;) {
    const size_t begin = (end - 1) / 8 * 8;
    uint64_t word = 0;
    for (size_t byte = end; byte-- > begin;)
      word = word << 8 | row[byte];
    while (word) {
      const unsigned top = 63 - unsigned(llvm::countl_zero(word));
      unsigned blocks = unsigned(llvm::countl_one(word << (63 - top)));
      word &= ~(((blocks == 64 ? 0 : uint64_t(1) << blocks) - 1) << (top + 1 - blocks));
      unsigned block = unsigned(begin) * 8 + top + 1 - blocks;
      // A run that ends where the one before begins is more of that, as long as a word can say so.
      if (runs.size() > first && block + blocks == runs[runs.size() - 2]) {
        const unsigned more = std::min(blocks, kMaxRunBlocks - runs.back());
        runs[runs.size() - 2] -= uint16_t(more);
        runs.back() += uint16_t(more);
        blocks -= more;
      }
      for (; blocks; blocks -= std::min(blocks, kMaxRunBlocks)) {
        const unsigned taken = std::min(blocks, kMaxRunBlocks);
        runs.push_back(uint16_t(block + blocks - taken));
        runs.push_back(uint16_t(taken));
      }
    }
    end = begin;
  }
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

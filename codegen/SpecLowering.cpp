// Lowers a sattn.kernel op to the plain data that emission and packaging need.
#include "codegen/SpecLowering.h"

#include "ir/Sattn.h"

#include <limits>

using namespace mlir;

namespace calibatt {

static_assert(Form(sattn::KernelForm::Full) == Form::Full);
static_assert(Form(sattn::KernelForm::Schedule) == Form::Schedule);
static_assert(Form(sattn::KernelForm::Runs) == Form::Runs);
static_assert(Form(sattn::KernelForm::Table) == Form::Table);

AttentionSpec lowerSpec(sattn::SpecAttr attr) {
  // Out of int's range a size is clamped, so that isValid() refuses it.
  auto clamp = [](uint32_t value) {
    return int(std::min<uint32_t>(value, std::numeric_limits<int>::max()));
  };
  AttentionSpec spec;
  spec.head_dim = clamp(attr.getHeadDim());
  spec.tokens = clamp(attr.getTokens());
  spec.scale = attr.getScale().getValue().convertToFloat();
  spec.stages = clamp(attr.getStages());
  spec.ping_pong = attr.getPingPong();
  spec.lazy_rescale = attr.getLazyRescale();
  spec.watchdog = attr.getWatchdog();
  spec.persistent = attr.getPersistent();
  spec.frozen_max = attr.getFrozenMax();
  spec.mma_sums = attr.getMmaSums();
  spec.grid_height = clamp(attr.getGridHeight());
  spec.grid_width = clamp(attr.getGridWidth());
  spec.anchors = clamp(attr.getAnchors());
  return spec;
}

std::optional<AnchorGrid> anchorGridOf(sattn::ProblemAttr problem) {
  AnchorGrid grid{problem.getHeight(), problem.getWidth(), problem.getAnchors()};
  if (problem.getMaxText() != 0 || !isValid(grid, problem.getTokens()))
    return std::nullopt;
  return grid;
}

uint32_t tilesOfHead(sattn::RowsOp rows, uint32_t head) {
  sattn::ProblemAttr problem = sattn::problemOf(rows);
  if (!problem || !rows.isRepetitive(head))
    return rows.getRows();
  std::optional<AnchorGrid> grid = anchorGridOf(problem);
  return grid ? packedTiles(*grid, problem.getTokens()) : rows.getRows();
}

namespace {

/// The key blocks of every class: the visits of the region where there is one,
/// so that what is emitted is what the IR shows; else the runs.
std::vector<std::vector<uint16_t>> lowerClasses(sattn::KernelOp op, sattn::RowsOp rows) {
  std::vector<std::vector<uint16_t>> classes;
  classes.reserve(rows.getClasses());
  if (op.isUnrolled()) {
    for (auto rowClass : op.getBody().getOps<sattn::RowClassOp>()) {
      std::vector<uint16_t> &blocks = classes.emplace_back();
      for (auto visit : rowClass.getBody().getOps<sattn::VisitOp>())
        blocks.push_back(uint16_t(visit.getBlock()));
    }
    return classes;
  }
  ArrayRef<uint16_t> runs = sattn::resourceData<uint16_t>(rows.getRunsAttr());
  ArrayRef<uint32_t> begins = sattn::resourceData<uint32_t>(rows.getBeginsAttr());
  for (uint32_t index = 0; index < rows.getClasses(); ++index) {
    std::vector<uint16_t> &blocks = classes.emplace_back();
    for (size_t run = begins[index]; run < begins[index + 1]; ++run)
      for (uint32_t i = runs[2 * run + 1]; i-- > 0;)
        blocks.push_back(uint16_t(runs[2 * run] + i));
  }
  return classes;
}

} // namespace

FailureOr<LoweredKernel> lowerKernel(sattn::KernelOp op) {
  if (!op.getForm())
    return op.emitError() << "has no form: it did not go through choose-form";
  if (!op.getOrderAttr())
    return op.emitError() << "has no launch order: it did not go through order-tiles";
  if (op.isUnrolled() && op.getBody().empty())
    return op.emitError() << "has no visits: it did not go through unroll-schedule";
  auto rows = SymbolTable::lookupNearestSymbolFrom<sattn::RowsOp>(op, op.getRowsAttr());
  if (!rows)
    return op.emitError() << "symbol " << op.getRowsAttr() << " is not a sattn.rows";
  if (!op.isUnrolled() && !rows.getRunsAttr())
    return op.emitError() << "has no runs: it did not go through coalesce-runs";
  if (rows.getCols() > UINT16_MAX || (op.isUnrolled() && rows.getClasses() > UINT16_MAX))
    return op.emitError() << "has " << rows.getClasses() << " row classes of " << rows.getCols()
                          << " key blocks, wanted at most " << UINT16_MAX << " each";

  LoweredKernel lowered;
  KernelPlan &plan = lowered.plan;
  plan.spec = lowerSpec(op.getSpecAttr());
  if (!isValid(plan.spec))
    return op.emitError() << "spec " << op.getSpecAttr() << " is not one a kernel can have";
  plan.form = Form(*op.getForm());
  plan.heads = op.getHeads();

  Schedule &schedule = lowered.schedule;
  schedule.tokens = op.getSpecAttr().getTokens();
  schedule.heads = rows.getHeads();
  schedule.queryBlocks = rows.getRows();
  schedule.keyBlocks = rows.getCols();
  ArrayRef<uint32_t> classOf = sattn::resourceData<uint32_t>(rows.getClassOf());
  schedule.rowClass.assign(classOf.begin(), classOf.end());
  schedule.classes = lowerClasses(op, rows);
  if (rows.getRepetitive()) {
    schedule.grid = anchorGrid(plan.spec);
    schedule.repetitive.resize(rows.getHeads());
  }
  for (uint32_t head = 0; head < rows.getHeads(); ++head) {
    uint32_t tiles = tilesOfHead(rows, head);
    if (rows.isRepetitive(head))
      schedule.repetitive[head] = 1;
    for (uint32_t row = 0; row < rows.getRows(); ++row) {
      uint32_t &rowClass = schedule.rowClass[size_t(head) * rows.getRows() + row];
      if (row >= tiles)
        rowClass = kAbsentRow;
      else
        lowered.visits += schedule.classes[rowClass].size();
    }
  }

  if (op.isUnrolled()) {
    plan.classes = schedule.classes;
    plan.rowClass = emittedRowClasses(schedule);
  } else {
    plan.scheduleCapacity = scheduleCapacityClass(scheduleImageBytes(schedule, plan.form));
  }

  ArrayRef<uint16_t> order = sattn::resourceData<uint16_t>(op.getOrderAttr());
  lowered.order.assign(order.begin(), order.end());
  lowered.layer = op.getLayer();
  lowered.step = op.getStep();
  lowered.headBase = op.getHeadBase();
  lowered.heads = op.getHeads();
  if (std::optional<llvm::APFloat> micros = op.getPredictedMicros())
    lowered.predictedMicros = micros->convertToFloat();
  lowered.predictedCodeBytes = op.getCodeBytes().value_or(0);
  if (std::optional<llvm::APFloat> seconds = op.getCompileSeconds())
    lowered.predictedCompileSeconds = seconds->convertToFloat();
  lowered.target = op.getTarget()->str();
  lowered.reason = op.getReason().value_or("").str();
  lowered.dense = op.getDense();
  return lowered;
}

} // namespace calibatt

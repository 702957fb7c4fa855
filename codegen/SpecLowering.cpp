// Lowers a sattn.kernel op to the plain data that emission and packaging need.
#include "codegen/SpecLowering.h"

#include "ir/Sattn.h"
#include "runtime/format/RepetitiveTiles.h"

#include <cstring>
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
  return repetitiveTiles({problem.getHeight(), problem.getWidth(), problem.getAnchors()},
                         problem.getTokens(), problem.getMaxText());
}

namespace {

/// The schedule of an unrolled kernel: the visits of its region, so that what is emitted is what
/// the IR shows.
Schedule lowerVisits(sattn::KernelOp op, sattn::RowsOp rows, const ScheduleMasks &masks) {
  Schedule schedule;
  schedule.tokens = masks.tokens;
  schedule.heads = masks.heads;
  schedule.queryBlocks = schedule.keyBlocks = masks.blocks();
  schedule.repetitive = masks.repetitive;
  schedule.grid = masks.grid;
  for (auto rowClass : op.getBody().getOps<sattn::RowClassOp>()) {
    std::vector<uint16_t> &blocks = schedule.classes.emplace_back();
    for (auto visit : rowClass.getBody().getOps<sattn::VisitOp>())
      blocks.push_back(uint16_t(visit.getBlock()));
  }
  ArrayRef<uint32_t> classOf = sattn::resourceData<uint32_t>(rows.getClassOf());
  schedule.rowClass.assign(classOf.begin(), classOf.end());
  for (uint32_t head = 0; head < masks.heads; ++head)
    for (uint32_t row = masks.rowsOf(head); row < masks.blocks(); ++row)
      schedule.rowClass[size_t(head) * masks.blocks() + row] = kAbsentRow;
  return schedule;
}

ScheduleMasks lowerMasks(sattn::RowsOp rows, const AttentionSpec &spec) {
  ScheduleMasks masks;
  masks.tokens = uint32_t(spec.tokens);
  masks.heads = rows.getHeads();
  if (std::optional<ArrayRef<int32_t>> repetitive = rows.getRepetitive()) {
    masks.grid = anchorGrid(spec);
    masks.repetitive.resize(masks.heads);
    for (int32_t head : *repetitive)
      masks.repetitive[size_t(head)] = 1;
  }
  masks.words.resize(masks.rows() * masks.rowWords());
  ArrayRef<uint32_t> classOf = sattn::resourceData<uint32_t>(rows.getClassOf());
  ArrayRef<uint8_t> bits = sattn::resourceData<uint8_t>(rows.getBits());
  const size_t rowBytes = sattn::maskRowBytes(rows.getCols());
  for (uint32_t head = 0; head < masks.heads; ++head)
    for (uint32_t row = 0; row < masks.rowsOf(head); ++row)
      std::memcpy(masks.row(head, row).data(),
                  bits.data() + classOf[size_t(head) * masks.blocks() + row] * rowBytes, rowBytes);
  return masks;
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

  lowered.masks = lowerMasks(rows, plan.spec);
  lowered.visits = countBits(lowered.masks.words);
  if (op.isUnrolled()) {
    Schedule schedule = lowerVisits(op, rows, lowered.masks);
    plan.rowClass = emittedRowClasses(schedule);
    plan.classes = std::move(schedule.classes);
  } else {
    lowered.image = buildScheduleImage(lowered.masks, plan.form);
    plan.scheduleCapacity = scheduleCapacityClass(lowered.image.size());
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

// Predicts what a form of a schedule costs.
#include "compiler/CostModel.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <queue>

namespace calibatt {

namespace {

// All of these are estimates. "Measured" means on another kernel of the same
// build (128x128 tiles, two consumer warpgroups) on an H100 at 1980 MHz, or with
// the CUDA 13 compiler; they are to be replaced when these kernels are measured.

/// Processors of the GPU that the model assumes (H100 SXM).
constexpr uint32_t kProcessors = 132;
/// One 128x128 step at head_dim 128: 8.39 MFLOP at 650 TFLOP/s over 132 SMs.
constexpr double kStepMicros = 1.70;
/// Start and end of a tile: Q load, first K load, epilogue. Estimated.
constexpr double kTileMicros = 3.0;
/// Runs and Table: two dependent loads at a tile's start (2-3 us where nothing
/// hides them; half of it is assumed hidden). Estimated.
constexpr double kWalkMicros = 1.25;
/// Steps unrolled beyond this no longer fit the instruction cache (128 KB L1.5). Estimated.
constexpr double kInstructionCacheBytes = 128 * 1024;
/// Slowdown of a step all of whose instructions miss (Full: Schedule has its steps in loops).
/// Estimated.
constexpr double kInstructionMissPenalty = 0.25;

/// Code of a kernel without its schedule: cubins of 33-40 KB, measured.
constexpr uint64_t kKernelBytes = 36000;
/// Unrolled code, measured: a visit of full 7,400-10,000 bytes; schedule 198 bytes a
/// row class and 31 a run (codegen/device/NOTES.md).
constexpr uint64_t kFullVisitBytes = 8000;
constexpr uint64_t kScheduleClassBytes = 200;
constexpr uint64_t kScheduleRunBytes = 32;

/// Compile times, measured: any kernel 0.45-0.7 s; full is quadratic in the
/// visits of one function (32 visits 22 s); schedule 2 s for 2,000 runs, 10 s for
/// 8,700, 69 s for 27,000.
constexpr double kKernelSeconds = 0.6;
constexpr double kFullKernelSeconds = 0.5;
constexpr double kFullVisitSquaredSeconds = 0.02;
constexpr double kScheduleRunSeconds = 0.0005;
constexpr double kScheduleRunSquaredSeconds = 7e-8;

/// Forms within this factor of the fastest are taken to be equally fast.
constexpr double kEquallyFast = 1.01;

uint64_t roundUp16(uint64_t bytes) { return (bytes + 15) / 16 * 16; }

/// Bytes of the data image of ScheduleLayout.h.
uint64_t imageBytes(const ScheduleShape &shape, Form form) {
  uint64_t words = form == Form::Runs ? shape.classRuns
                                      : uint64_t(shape.classes) * ((shape.keyBlocks + 31) / 32);
  return roundUp16(sizeof(ScheduleHeader) + sizeof(RowEntry) * shape.tileVisits.size()) +
         roundUp16(4 * words);
}

bool isWithin(const FormCost &cost, const UnrollBudget &budget) {
  return cost.unrolledBytes <= budget.bytes && cost.compileSeconds <= budget.seconds;
}

/// What an unrolled form that is over the budget would need; bytes go first,
/// because compile times far beyond the budget mean little.
std::string overBudgetText(const FormCost &cost, const UnrollBudget &budget) {
  if (cost.unrolledBytes > budget.bytes)
    return fmt::format("{} bytes of unrolled code, budget {}", cost.unrolledBytes, budget.bytes);
  return fmt::format("{:.1f} s to compile, budget {:g}", cost.compileSeconds, budget.seconds);
}

} // namespace

double makespan(std::vector<double> tiles, uint32_t processors) {
  std::sort(tiles.begin(), tiles.end(), std::greater<>());
  std::priority_queue<double, std::vector<double>, std::greater<>> busyUntil;
  double last = 0;
  for (double tile : tiles) {
    double start = 0;
    if (busyUntil.size() == processors) {
      start = busyUntil.top();
      busyUntil.pop();
    }
    busyUntil.push(start + tile);
    last = std::max(last, start + tile);
  }
  return last;
}

FormCost estimateCost(const ScheduleShape &shape, Form form) {
  FormCost cost;
  double visits = double(shape.classVisits), runs = double(shape.classRuns);
  switch (form) {
  case Form::Full:
    cost.unrolledBytes = kFullVisitBytes * shape.classVisits;
    cost.compileSeconds = kFullKernelSeconds + kFullVisitSquaredSeconds * visits * visits;
    break;
  case Form::Schedule:
    cost.unrolledBytes = kScheduleClassBytes * shape.classes + kScheduleRunBytes * shape.classRuns;
    cost.compileSeconds =
        kKernelSeconds + kScheduleRunSeconds * runs + kScheduleRunSquaredSeconds * runs * runs;
    break;
  case Form::Runs:
  case Form::Table:
    cost.compileSeconds = kKernelSeconds;
    cost.dataBytes = imageBytes(shape, form);
    break;
  }
  cost.codeBytes = kKernelBytes + cost.unrolledBytes;

  double step = kStepMicros * shape.headDim / 128;
  if (form == Form::Full && double(cost.codeBytes) > kInstructionCacheBytes)
    step *= 1 + kInstructionMissPenalty * (1 - kInstructionCacheBytes / double(cost.codeBytes));
  double tile = kTileMicros + (cost.dataBytes > 0 ? kWalkMicros : 0);
  std::vector<double> tiles;
  tiles.reserve(shape.tileVisits.size());
  for (uint32_t tileVisits : shape.tileVisits)
    tiles.push_back(tile + step * tileVisits);
  cost.micros = makespan(std::move(tiles), kProcessors);
  return cost;
}

FormChoice chooseForm(const ScheduleShape &shape, std::optional<Form> forced,
                      const UnrollBudget &budget) {
  FormChoice choice;
  if (forced) {
    choice.form = *forced;
    choice.cost = estimateCost(shape, *forced);
    choice.overBudget = choice.cost.unrolledBytes > 0 && !isWithin(choice.cost, budget);
    choice.reason = fmt::format("form {} was asked for", formName(*forced));
    if (choice.overBudget)
      choice.reason += ", over the budget: " + overBudgetText(choice.cost, budget);
    return choice;
  }

  FormCost runs = estimateCost(shape, Form::Runs), table = estimateCost(shape, Form::Table);
  bool takeTable = table.dataBytes < runs.dataBytes;
  struct Candidate {
    Form form;
    FormCost cost;
    bool allowed;
  };
  // From the most unrolled to the least.
  Candidate candidates[] = {
      {Form::Full, estimateCost(shape, Form::Full), false},
      {Form::Schedule, estimateCost(shape, Form::Schedule), false},
      {takeTable ? Form::Table : Form::Runs, takeTable ? table : runs, true},
  };
  double least = candidates[2].cost.micros;
  for (Candidate &c : candidates) {
    c.allowed = c.allowed || isWithin(c.cost, budget);
    if (c.allowed)
      least = std::min(least, c.cost.micros);
  }
  const Candidate *taken = nullptr;
  std::string rejected;
  for (const Candidate &c : candidates) {
    if (!taken && c.allowed && c.cost.micros <= kEquallyFast * least) {
      taken = &c;
    } else if (!c.allowed) {
      rejected += fmt::format("; {} is over the budget ({})", formName(c.form),
                              overBudgetText(c.cost, budget));
    } else {
      rejected += fmt::format("; {} is predicted at {:.2f} us", formName(c.form), c.cost.micros);
    }
  }
  choice.form = taken->form;
  choice.cost = taken->cost;
  choice.reason =
      fmt::format("auto: {} is predicted at {:.2f} us", formName(taken->form), taken->cost.micros);
  if (choice.form == Form::Runs || choice.form == Form::Table)
    choice.reason += fmt::format(" and its data image is {} bytes ({}: {})", choice.cost.dataBytes,
                                 formName(takeTable ? Form::Runs : Form::Table),
                                 takeTable ? runs.dataBytes : table.dataBytes);
  choice.reason += rejected;
  return choice;
}

} // namespace calibatt

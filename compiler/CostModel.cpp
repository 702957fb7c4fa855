// Predicts what a form of a schedule costs.
#include "compiler/CostModel.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <queue>

namespace calibatt {

namespace {

// Measured on an H100 SXM under its power limit, or with the CUDA 13 compiler, where nothing else
// is said: codegen/device/NOTES.md and test/benchmark/results.

/// Processors of the GPU that the model assumes (H100 SXM).
constexpr uint32_t kProcessors = 132;
/// A launch before its first tile and after its last.
constexpr double kLaunchMicros = 7;
/// One 128x128 visit at head_dim 128 and what else a tile takes. Of schedules that are data: CTAs
/// that walk lists of tiles, maximum frozen; they take a little longer to begin.
struct Pace {
  double start, tile, visit; ///< microseconds
};
constexpr Pace kDataPace{3, 0.8, 1.43};
constexpr Pace kUnrolledPace{0, 2.5, 1.57};
/// Steps unrolled beyond this no longer fit the instruction cache (128 KB L1.5). Estimated.
constexpr double kInstructionCacheBytes = 128 * 1024;
/// Slowdown of a step all of whose instructions miss (Full: Schedule has its steps in loops).
/// Estimated.
constexpr double kInstructionMissPenalty = 0.25;

/// Code of a kernel without its schedule.
constexpr uint64_t kDataKernelBytes = 82000;
constexpr uint64_t kUnrolledKernelBytes = 28000;
/// Unrolled code, measured: a visit of full 7,400-10,000 bytes; schedule 198 bytes a
/// row class and 31 a run (codegen/device/NOTES.md).
constexpr uint64_t kFullVisitBytes = 8000;
constexpr uint64_t kScheduleClassBytes = 200;
constexpr uint64_t kScheduleRunBytes = 32;

/// Compile times: kernels for data 2.8 s, schedule 1 s and 2 s for 2,000 runs, 10 s for 8,700, 69 s
/// for 27,000; full is quadratic in the visits of one function (32 visits 22 s).
constexpr double kDataKernelSeconds = 2.8;
constexpr double kScheduleKernelSeconds = 0.9;
constexpr double kFullKernelSeconds = 0.5;
constexpr double kFullVisitSquaredSeconds = 0.02;
constexpr double kScheduleRunSeconds = 0.0005;
constexpr double kScheduleRunSquaredSeconds = 7e-8;

/// Forms within this factor of the fastest are taken to be equally fast.
constexpr double kEquallyFast = 1.01;

/// Deviation of normal logits, and the share of tiles that ran again (codegen/device/NOTES.md).
constexpr std::array<std::pair<double, double>, 8> kReruns = {{{8, 0},
                                                               {10, 0.0004},
                                                               {11, 0.0026},
                                                               {12, 0.0135},
                                                               {13, 0.0535},
                                                               {14, 0.169},
                                                               {16, 0.711},
                                                               {20, 1}}};

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

namespace {

/// Everything but the run time, which takes longest to work out.
FormCost estimateSizes(const ScheduleShape &shape, Form form) {
  FormCost cost;
  double visits = double(shape.classVisits), runs = double(shape.classRuns);
  switch (form) {
  case Form::Full:
    cost.unrolledBytes = kFullVisitBytes * shape.classVisits;
    cost.compileSeconds = kFullKernelSeconds + kFullVisitSquaredSeconds * visits * visits;
    break;
  case Form::Schedule:
    cost.unrolledBytes = kScheduleClassBytes * shape.classes + kScheduleRunBytes * shape.classRuns;
    cost.compileSeconds = kScheduleKernelSeconds + kScheduleRunSeconds * runs +
                          kScheduleRunSquaredSeconds * runs * runs;
    break;
  case Form::Runs:
  case Form::Table:
    cost.compileSeconds = kDataKernelSeconds;
    cost.dataBytes = imageBytes(shape, form);
    break;
  }
  cost.codeBytes =
      (cost.dataBytes > 0 ? kDataKernelBytes : kUnrolledKernelBytes) + cost.unrolledBytes;
  return cost;
}

double estimateMicros(const ScheduleShape &shape, Form form, const FormCost &cost) {
  const Pace &pace = cost.dataBytes > 0 ? kDataPace : kUnrolledPace;
  double visit = pace.visit * shape.headDim / 128;
  if (form == Form::Full && double(cost.codeBytes) > kInstructionCacheBytes)
    visit *= 1 + kInstructionMissPenalty * (1 - kInstructionCacheBytes / double(cost.codeBytes));
  std::vector<double> tiles;
  tiles.reserve(shape.tileVisits.size());
  for (uint32_t tileVisits : shape.tileVisits)
    tiles.push_back(pace.tile + visit * tileVisits);
  return kLaunchMicros + pace.start + makespan(std::move(tiles), kProcessors);
}

} // namespace

double predictedReruns(double rowMax, uint64_t tokens) {
  // Of n normal numbers the largest is about this many deviations (Fisher and Tippett, 1928).
  const double logRows = std::log(std::max<double>(double(tokens), 2)),
               root = std::sqrt(4 * logRows);
  const double largest = root - (std::log(2 * logRows) + std::log(4 * M_PI)) / (2 * root);
  const double deviation = rowMax / largest;
  if (!(deviation > kReruns.front().first))
    return 0;
  for (size_t i = 1; i < kReruns.size(); ++i)
    if (deviation <= kReruns[i].first) {
      const auto &[low, before] = kReruns[i - 1];
      const auto &[high, after] = kReruns[i];
      return before + (after - before) * (deviation - low) / (high - low);
    }
  return 1;
}

FormCost estimateCost(const ScheduleShape &shape, Form form) {
  FormCost cost = estimateSizes(shape, form);
  cost.micros = estimateMicros(shape, form, cost);
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

  FormCost runs = estimateSizes(shape, Form::Runs), table = estimateSizes(shape, Form::Table);
  bool takeTable = table.dataBytes < runs.dataBytes;
  struct Candidate {
    Form form;
    FormCost cost;
    bool allowed;
  };
  // From the most unrolled to the least.
  Candidate candidates[] = {
      {Form::Full, estimateSizes(shape, Form::Full), false},
      {Form::Schedule, estimateSizes(shape, Form::Schedule), false},
      {takeTable ? Form::Table : Form::Runs, takeTable ? table : runs, true},
  };
  double least = std::numeric_limits<double>::infinity();
  for (Candidate &c : candidates) {
    c.allowed = c.allowed || isWithin(c.cost, budget);
    if (!c.allowed)
      continue;
    c.cost.micros = estimateMicros(shape, c.form, c.cost);
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

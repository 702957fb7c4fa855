// Predicts what a form of a schedule costs: run time, bytes, compile time. The
// constants are estimates; their sources are in CostModel.cpp.
#pragma once

#include "runtime/format/ScheduleLayout.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace calibatt {

/// What the cost of a schedule depends on.
struct ScheduleShape {
  uint32_t headDim = 128;
  uint32_t keyBlocks = 0;
  std::vector<uint32_t> tileVisits; ///< key blocks of every row of every head
  uint32_t classes = 0;
  uint64_t classVisits = 0; ///< key blocks summed over the row classes
  uint64_t classRuns = 0;   ///< runs summed over the row classes
};

/// Predicted cost of one kernel in one form.
struct FormCost {
  double micros = 0;          ///< one launch, one batch entry
  uint64_t unrolledBytes = 0; ///< code that exists because of unrolling
  uint64_t codeBytes = 0;     ///< all code
  uint64_t dataBytes = 0;     ///< data image
  double compileSeconds = 0;  ///< of one code image
};

FormCost estimateCost(const ScheduleShape &shape, Form form);

/// Time until the last of `processors` is done when each takes the longest tile left.
double makespan(std::vector<double> tiles, uint32_t processors);

/// The share of tiles, 0 to 1, that a frozen maximum would compute twice in a site whose largest
/// scaled logit is `rowMax` nats: measured on normal logits, whose largest it would be among
/// `tokens` rows of as many. A sum of weights has to pass 2^64, so that it is 0 below 44 nats,
/// unless the whole first block of a row is far below 0. Logits that gather in few rows have a
/// smaller share than this; the largest alone does not tell.
double predictedReruns(double rowMax, uint64_t tokens);
/// From this share on the online softmax is the faster one: it costs 6 %, a tile that runs twice
/// more than two, as its CTA's list gets longer.
constexpr double kMostReruns = 0.025;

/// Bounds on unrolling that `auto` respects.
struct UnrollBudget {
  uint64_t bytes = 64 << 10;
  double seconds = 10;
};

/// A decision and the sentence that explains it.
struct FormChoice {
  Form form = Form::Runs;
  FormCost cost;
  std::string reason;
  bool overBudget = false; ///< a forced form that `auto` would not have taken
};

/// `forced` absent: the least predicted run time and, within 1 % of it, the most
/// unrolled form within the budget.
FormChoice chooseForm(const ScheduleShape &shape, std::optional<Form> forced,
                      const UnrollBudget &budget);

} // namespace calibatt

// The steps of a denoising schedule, as profiles, counts and packages tell them.
#pragma once

#include "runtime/format/Json.h"

#include <string>
#include <vector>

namespace calibatt {

/// One denoising step; step 0 is the noisiest.
struct StepInfo {
  double timestep = 0;
  double sigma = 0;
  std::string module = "transformer"; ///< which transformer runs the step (Wan 2.2 has two)
  bool operator==(const StepInfo &) const = default;
};

/// Array of {timestep, sigma, module}.
Json stepsToJson(const std::vector<StepInfo> &steps);
/// The member `steps`, at most `limit` of them; what is wrong is kept in `fields`.
std::vector<StepInfo> readSteps(JsonFields &fields, size_t limit);

} // namespace calibatt

// The energy schedule and the paper's parameters for it.
#include "calib_profiles/EnergySchedule.h"

#include <algorithm>
#include <cmath>

namespace calibatt {

namespace {
constexpr double kUndistilledC = 0.99;
constexpr double kUndistilledK = 16;
constexpr uint32_t kMostDistilledSteps = 8;
} // namespace

double EnergySchedule::epsilon(uint32_t step) const {
  return a + (c - a) * std::exp(-k * double(step) / double(steps));
}

double lateEnergy(uint64_t tokens) {
  return std::min(0.796 + 1.41e-6 * double(tokens), kUndistilledC);
}

EnergySchedule undistilledSchedule(uint64_t tokens, uint32_t steps) {
  return {lateEnergy(tokens), kUndistilledC, kUndistilledK, steps};
}

EnergySchedule distilledSchedule(uint32_t steps) { return {0.763, 0.863, 5.64, steps}; }

EnergySchedule defaultSchedule(uint64_t tokens, uint32_t steps) {
  return steps <= kMostDistilledSteps ? distilledSchedule(steps)
                                      : undistilledSchedule(tokens, steps);
}

EnergySchedule scheduleOf(const Criterion &criterion, uint32_t steps) {
  return {criterion.a, criterion.c, criterion.k, steps};
}

} // namespace calibatt

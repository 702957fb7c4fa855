// How much of a row's attention a mask must keep, as a function of the step.
#pragma once

#include "calib_profiles/Profile.h"

#include <cstdint>

namespace calibatt {

/// eps(t) = A + (C - A) * exp(-k * t / T): strict in the noisy first steps, which
/// fix the layout of the video, loose later. arXiv 2603.05503.
struct EnergySchedule {
  double a = 0; ///< what late steps keep
  double c = 0; ///< what step 0 keeps
  double k = 0; ///< how fast eps falls from c to a
  uint32_t steps = 1;

  /// The share of a row's energy to keep at `step`, 0 being the noisiest.
  double epsilon(uint32_t step) const;
};

/// A of a 50-step model with `tokens` video tokens: 0.796 + 1.41e-6 * tokens, at
/// most 0.99, the C of these models (reached above 137,000 tokens).
double lateEnergy(uint64_t tokens);

/// The paper's parameters for undistilled models (about 50 steps).
EnergySchedule undistilledSchedule(uint64_t tokens, uint32_t steps);
/// The paper's parameters for 4-step distilled models.
EnergySchedule distilledSchedule(uint32_t steps);
/// distilledSchedule up to 8 steps, undistilledSchedule above.
EnergySchedule defaultSchedule(uint64_t tokens, uint32_t steps);
/// The schedule a profile was made with.
EnergySchedule scheduleOf(const Criterion &criterion, uint32_t steps);

} // namespace calibatt

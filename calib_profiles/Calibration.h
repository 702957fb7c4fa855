// From dumps of Q and K to the masks of a profile, on the CPU.
#pragma once

#include "calib_profiles/CountsAccumulator.h"
#include "calib_profiles/Dump.h"
#include "calib_profiles/EnergySchedule.h"

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace calibatt {

/// What may be set instead of method's defaults.
struct CalibrationOptions {
  std::string model; ///< empty: the dumps'
  double rho = 0.5, gamma = 0.87;
  uint32_t anchors = 5;
  std::optional<double> a, c, k; ///< unset: defaultSchedule()
};

/// A set of dumps that belong together. The order of the paths does not matter:
/// prompts are taken in the order of their ids.
class Calibration {
public:
  /// Refuses dumps that disagree, prompt ids that occur twice, and more than 255 dumps.
  static Result<Calibration> open(const std::vector<std::string> &paths,
                                  const CalibrationOptions &options);

  const ProfileHeader &header() const { return profileHeader; }
  /// Energies, repetition, vote for all steps of one head. Safe from several threads.
  Result<HeadProfile> head(uint32_t layer, uint32_t head) const;
  /// Adds the prompts that `counts`, which are of the same problem, do not have yet.
  /// `progress` is told the sites of all prompts done so far, one call at a time.
  Status countInto(CountsAccumulator &counts, unsigned jobs,
                   const std::function<void(uint64_t done)> &progress) const;
  uint64_t prompts() const { return dumps.size(); }

private:
  Calibration() = default;
  Status measure(const DumpReader &dump, CountsAccumulator &counts, uint64_t site) const;

  std::vector<DumpReader> dumps; // by prompt id
  ProfileHeader profileHeader;
};

} // namespace calibatt

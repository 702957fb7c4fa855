// Counts -> profile, without the model: thresholds can be tried in seconds.
#pragma once

#include "calib_profiles/CountsFile.h"
#include "calib_profiles/HeadSelector.h"

#include <string>

namespace calibatt {

struct SelectionOptions {
  double rho = 0.5, gamma = 0.87;
  double hysteresis = 0, singletons = 0; ///< Denoising.h; 0: off
  std::string model;                     ///< empty: the counts'
};

/// A selection from open counts, which outlive it.
class CountsSelection {
public:
  /// Fails where there are no prompts, or a killed run left one half folded in.
  static Result<CountsSelection> create(const CountsReader &counts,
                                        const SelectionOptions &options);

  /// Of the profile.
  const ProfileHeader &header() const { return profileHeader; }
  /// All steps of a head; what the rules cost is added to `costs`. Safe from several threads.
  Result<HeadProfile> head(uint32_t layer, uint32_t head, DenoisingCosts &costs) const;

private:
  explicit CountsSelection(const CountsReader &counts) : counts(&counts) {}

  const CountsReader *counts;
  ProfileHeader profileHeader;
};

} // namespace calibatt

// What a profile amounts to: densities, runs, kept mass, how steps resemble
// each other.
#pragma once

#include "calib_profiles/Profile.h"

#include <cstdint>
#include <vector>

namespace calibatt {

/// Means over some sites. Repetitive sites count only in `sites`, `repetitive`
/// and `computed`: they have no mask.
struct SiteMeans {
  uint64_t sites = 0, repetitive = 0;
  double density = 0;
  double keptMass = 0;
  double runsPerRow = 0;
  double iou = 0; ///< with the step before, over pairs of sites that both have a mask
  uint64_t pairs = 0;
  /// Visits over those of dense attention: the density, for a repetitive site the share of tiles
  /// that its packed anchor rows fill.
  double computed = 0;
};

/// Means by layer and by step. Early is the first fifth of the steps, late the last half.
struct ProfileSummary {
  SiteMeans all, early, late;
  std::vector<SiteMeans> layers, layersEarly, layersLate, steps;
  std::vector<uint32_t> repetitiveHeads; ///< [layers] heads repetitive at half the steps or more
  uint64_t distinctMasks = 0;            ///< distinct within each head
};

/// First step that is not early, first that is late.
uint32_t earlySteps(uint32_t steps);
uint32_t lateStart(uint32_t steps);

/// Adds up head by head; the order does not matter.
class ProfileSummariser {
public:
  explicit ProfileSummariser(const ProfileHeader &header);
  void add(uint32_t layer, const HeadProfile &head);
  ProfileSummary finish();

private:
  ProfileHeader header;
  double repetitiveShare;
  ProfileSummary sums;
};

/// Decodes every head of a profile once.
Result<ProfileSummary> summarise(const ProfileReader &profile);

} // namespace calibatt

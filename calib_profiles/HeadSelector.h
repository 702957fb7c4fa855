// From the counts of a head's steps to its masks: the vote, the rules against
// noise, repetition.
#pragma once

#include "calib_profiles/Profile.h"
#include "calib_profiles/Selection.h"

#include <cstdint>

namespace calibatt {

/// What a rule against noise did to some sites.
struct RuleCost {
  uint64_t added = 0, dropped = 0; ///< blocks
  double mass = 0;                 ///< kept mass lost, summed over sites; negative: gained

  RuleCost &operator+=(const RuleCost &other);
};

/// Of the sites that are not repetitive.
struct DenoisingCosts {
  uint64_t sites = 0, blocks = 0; ///< blocks: all of them, kept or not
  RuleCost hysteresis, singletons;

  DenoisingCosts &operator+=(const DenoisingCosts &other);
};

/// Takes the steps of one head in order, one in memory at a time.
class HeadSelector {
public:
  /// rho, gamma and the rules are those of the header's criterion; `header`
  /// outlives the selector.
  explicit HeadSelector(const ProfileHeader &header) : header(header) {}

  /// The next step.
  void add(const SiteCounts &site, float score, float rowMax);
  /// After the last step.
  HeadProfile take() { return std::move(profile); }
  const DenoisingCosts &costs() const { return sums; }

private:
  const ProfileHeader &header;
  HeadProfile profile;
  DenoisingCosts sums;
  BlockMask before; ///< of the step before, as hysteresis left it; empty: none to follow
};

} // namespace calibatt

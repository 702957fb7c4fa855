// One step after the other: the mask of hysteresis is carried to the next one.
#include "calib_profiles/HeadSelector.h"
#include "calib_profiles/Denoising.h"

#include <bit>

namespace calibatt {

namespace {

/// What changing `from` to `to` did.
RuleCost costOf(const SiteCounts &site, const BlockMask &from, const BlockMask &to) {
  RuleCost cost;
  for (size_t i = 0; i < from.bytes().size(); ++i) {
    cost.added += uint64_t(std::popcount(uint8_t(to.bytes()[i] & ~from.bytes()[i])));
    cost.dropped += uint64_t(std::popcount(uint8_t(from.bytes()[i] & ~to.bytes()[i])));
  }
  if (cost.added || cost.dropped)
    cost.mass = site.keptMass(from) - site.keptMass(to);
  return cost;
}

} // namespace

RuleCost &RuleCost::operator+=(const RuleCost &other) {
  added += other.added;
  dropped += other.dropped;
  mass += other.mass;
  return *this;
}

DenoisingCosts &DenoisingCosts::operator+=(const DenoisingCosts &other) {
  sites += other.sites;
  blocks += other.blocks;
  hysteresis += other.hysteresis;
  singletons += other.singletons;
  return *this;
}

void HeadSelector::add(const SiteCounts &site, float score, float rowMax) {
  const Criterion &criterion = header.criterion;
  const uint32_t step = uint32_t(profile.masks.size());
  SiteStats stats;
  stats.repetition = score;
  stats.rowMax = rowMax;
  if (step > 0 && header.steps[step].module != header.steps[step - 1].module)
    before = {};
  if (score >= criterion.gamma) {
    profile.masks.push_back(BlockMask::dense(site.blocks, site.blocks));
    before = {}; // a dense mask says nothing about the next step's
  } else {
    BlockMask mask = site.mask(criterion.rho);
    sums.sites += 1;
    sums.blocks += uint64_t(site.blocks) * site.blocks;
    if (criterion.hysteresis > 0) {
      if (before.rows()) {
        BlockMask steady = hysteresisMask(site, criterion.rho, criterion.hysteresis, before);
        sums.hysteresis += costOf(site, mask, steady);
        mask = std::move(steady);
      }
      before = mask;
    }
    if (criterion.singletons > 0) {
      BlockMask clean = withoutSingletons(site, mask, criterion.singletons);
      sums.singletons += costOf(site, mask, clean);
      mask = std::move(clean);
    }
    stats.keptMass = float(site.keptMass(mask));
    stats.density = float(mask.density());
    profile.masks.push_back(std::move(mask));
  }
  profile.stepMask.push_back(step);
  profile.stats.push_back(stats);
}

} // namespace calibatt

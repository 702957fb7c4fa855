// Grouping of consecutive steps by pairwise intersection over union.
#include "calib_profiles/StepSharing.h"

#include <algorithm>

namespace calibatt {

StepGroups shareSteps(std::span<const BlockMask *const> stepMasks, double tau) {
  StepGroups groups;
  size_t first = 0; // step the open group starts at
  for (size_t step = 0; step < stepMasks.size(); ++step) {
    const BlockMask &mask = *stepMasks[step];
    auto members = stepMasks.subspan(first, step - first);
    const bool joins =
        !members.empty() && std::all_of(members.begin(), members.end(), [&](const BlockMask *m) {
          return intersectionOverUnion(*m, mask) >= tau;
        });
    if (joins) {
      groups.masks.back().merge(mask);
    } else {
      groups.masks.push_back(mask);
      first = step;
    }
    groups.stepGroup.push_back(uint32_t(groups.masks.size() - 1));
  }
  return groups;
}

BlockMask shareableUnion(std::span<const BlockMask *const> stepMasks, size_t step, double tau) {
  const BlockMask &own = *stepMasks[step];
  BlockMask all = own;
  auto add = [&](size_t other) {
    if (intersectionOverUnion(own, *stepMasks[other]) < tau)
      return false;
    all.merge(*stepMasks[other]);
    return true;
  };
  for (size_t before = step; before > 0 && add(before - 1); --before)
    ;
  for (size_t after = step + 1; after < stepMasks.size() && add(after); ++after)
    ;
  return all;
}

} // namespace calibatt

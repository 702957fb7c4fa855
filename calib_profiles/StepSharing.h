// Steps of one head whose masks are nearly the same may share their union.
#pragma once

#include "calib_profiles/BlockMask.h"

#include <cstdint>
#include <span>
#include <vector>

namespace calibatt {

/// Groups of consecutive steps that share a mask.
struct StepGroups {
  std::vector<BlockMask> masks;    ///< union of the group's masks
  std::vector<uint32_t> stepGroup; ///< [steps] index into masks
};

/// Greedy from step 0: a step joins the group before it if its IoU with *every*
/// member is at least tau. Every shared mask is a superset of its members'.
StepGroups shareSteps(std::span<const BlockMask *const> stepMasks, double tau);

/// The most that sharing at tau can make of one step: the union of the consecutive
/// steps around it whose masks have an IoU of at least tau with its own. However the
/// groups are drawn, a step's shared mask is within it.
BlockMask shareableUnion(std::span<const BlockMask *const> stepMasks, size_t step, double tau);

} // namespace calibatt

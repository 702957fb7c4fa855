// Rules that remove noise from voted masks. Both can only move a block that the
// vote or its attention leaves in doubt; what every mask keeps is kept.
#pragma once

#include "calib_profiles/Selection.h"

namespace calibatt {

/// A block kept by at least rho + band of the prompts is kept, one kept by less than
/// rho - band is not, and one between does what it did in `before`, the mask of
/// the step before.
BlockMask hysteresisMask(const SiteCounts &site, double rho, double band, const BlockMask &before);

/// `mask` without the blocks that have no kept block among their eight neighbours
/// and a mean energy below `bound` / blocks; all are judged by `mask` as given.
BlockMask withoutSingletons(const SiteCounts &site, const BlockMask &mask, double bound);

} // namespace calibatt

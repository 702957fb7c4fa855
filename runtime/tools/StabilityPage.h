// A stability report as one page.
#pragma once

#include "calib_profiles/Stability.h"
#include "runtime/inspect/mask/Canvas.h"

namespace calibatt {

/// Keep frequencies, kept mass and IoU over steps, densities by layer and step and by
/// layer and head, with repetitive heads marked.
Canvas stabilityPage(const StabilityReport &report);

} // namespace calibatt

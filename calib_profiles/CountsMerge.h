// Counts made on different machines, added up.
#pragma once

#include "calib_profiles/LockedCounts.h"

#include <functional>
#include <string>
#include <vector>

namespace calibatt {

/// Writes the sum of the counts at `inputs` to `output`. The same inputs give the
/// same bytes in any order, and merging in several goes gives those of one. Means are
/// written with their energies as bytes, to which nothing can be added any more.
///
/// Refused by name: other problems than the first's, a prompt that is in two
/// inputs, more than 255 prompts, inputs that have means only, an output that is
/// an input. `progress` is told finished sites, on any thread.
Status mergeCounts(const std::vector<std::string> &inputs, const std::string &output,
                   CountsKind kind, unsigned jobs,
                   const std::function<void(uint64_t done, uint64_t sites)> &progress);

} // namespace calibatt

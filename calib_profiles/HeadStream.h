// Making the heads of a profile in parallel and writing them in order, with
// only a few of them in memory.
#pragma once

#include "calib_profiles/Profile.h"

#include <cstdint>
#include <functional>

namespace calibatt {

/// Makes head `index` = layer * heads + head; called from several threads at once.
using ProduceHead = std::function<Result<HeadProfile>(uint64_t index)>;
/// Takes the heads in order, on the calling thread.
using ConsumeHead = std::function<Status(uint64_t index, const HeadProfile &head)>;

/// Runs `produce` for 0 .. count - 1 on `jobs` threads (0: one a core). At most
/// 2 * jobs heads wait for `consume`. The error of the lowest index is returned,
/// whatever the number of threads; an exception of `produce` becomes an error.
Status streamHeads(uint64_t count, unsigned jobs, const ProduceHead &produce,
                   const ConsumeHead &consume);

} // namespace calibatt

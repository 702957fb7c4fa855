// Independent pieces of work on several threads.
#pragma once

#include "runtime/format/Result.h"

#include <cstdint>
#include <functional>

namespace calibatt {

/// Runs `work` for 0 .. count - 1 on `jobs` threads (0: one a core), the calling
/// one among them. The error of the lowest index is returned; exceptions become errors.
Status parallelFor(uint64_t count, unsigned jobs,
                   const std::function<Status(uint64_t index)> &work);

} // namespace calibatt

// The handle of open counts, and how its functions get at what is in it.
#pragma once

#include "calib_profiles/CountsAccumulator.h"
#include "calib_profiles/abi/AbiCalls.h"

#include <mutex>

struct calibatt_counts {
  calibatt::CountsAccumulator accumulator;
  std::mutex mutex; ///< one call at a time
};

namespace calibatt::abi {

inline calibatt_profile_status_t fail(calibatt_profile_status_t status, const Status &failure) {
  return fail(status, failure.message());
}

/// Runs `body` on the accumulator with the handle's mutex held.
template <typename Body>
calibatt_profile_status_t withCounts(calibatt_counts_t *counts, const char *function,
                                     const Body &body) {
  return guarded([&] {
    if (!counts)
      return nullArgument(function, "counts");
    std::lock_guard lock(counts->mutex);
    return body(counts->accumulator);
  });
}

} // namespace calibatt::abi

// What can be said of a mask without drawing it.
#include "runtime/inspect/mask/SiteMask.h"

#include <numeric>

namespace calibatt {

double SiteMask::density() const {
  const uint64_t count = std::accumulate(kept.begin(), kept.end(), uint64_t(0));
  return double(count) / double(kept.size());
}

} // namespace calibatt

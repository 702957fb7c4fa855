// What a package of a problem can need: README.md has the table.
#include "runtime/format/PackageTables.h"
#include "runtime/format/ScheduleImage.h"

#include <algorithm>

namespace calibatt {

ItemLimits itemLimits(const Problem &problem) {
  constexpr uint64_t kText = uint64_t(2) << 20, kPerVisit = 64 << 10, kPerSite = 1 << 10,
                     kMaxText = uint64_t(128) << 20;
  const uint64_t blocks = problem.blocks(),
                 rows = std::min(uint64_t(problem.heads) * blocks, kMaxKernelRows);
  ItemLimits limits{};
  limits.data = sizeof(ScheduleHeader) + 1 + (problem.heads + 7) / 8 + rows * ((blocks + 7) / 8);
  limits.order = rows * sizeof(uint16_t);
  limits.text = std::min(kMaxText, kText + kPerVisit * rows * blocks +
                                       kPerSite * problem.heads * problem.steps);
  // Runs of a row have a gap between them.
  limits.image = sizeof(ScheduleHeader) + rows * (sizeof(RowEntry) + 4 * ((blocks + 1) / 2)) + 64;
  limits.code = limits.text + scheduleCapacityClass(limits.image);
  return limits;
}

} // namespace calibatt

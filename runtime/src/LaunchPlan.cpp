#include "runtime/src/LaunchPlan.h"

#include <utility>

namespace calibatt {

LaunchPlan planLaunches(const PackageReader &package, HeadRange heads, uint32_t layer,
                        uint32_t step) {
  LaunchPlan plan;
  for (uint32_t head = 0; head < heads.count; ++head) {
    const uint32_t kernel = package.route(layer, heads.begin + head, step);
    if (!plan.launches.empty() && plan.launches.back().kernel == kernel)
      ++plan.launches.back().headCount;
    else
      plan.launches.push_back({kernel, head, 1, package.kernel(kernel).headBase - heads.begin});
  }
  return plan;
}

LaunchPlan planDense(const PackageReader &package, HeadRange heads, std::string reason) {
  LaunchPlan plan;
  plan.fallback = std::move(reason);
  const uint32_t kernel = package.denseKernel();
  const uint32_t covered = package.kernel(kernel).heads;
  // Every head of a dense schedule is the same: cover the range in pieces, whatever its size.
  for (uint32_t head = 0; head < heads.count; head += covered) {
    const uint32_t rest = heads.count - head;
    plan.launches.push_back({kernel, head, rest < covered ? rest : covered, head});
  }
  return plan;
}

} // namespace calibatt

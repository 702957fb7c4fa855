#include "runtime/src/LaunchPlan.h"

#include <utility>

namespace calibatt {

namespace {

// Adds a head of the range to the last launch, or opens a new one.
void addHead(LaunchPlan &plan, const PackageReader &package, HeadRange heads, uint32_t head,
             uint32_t kernel) {
  const KernelRecord &record = package.kernel(kernel);
  // Every head of the dense kernel (it has no layer) is the same: its schedule heads serve any
  // heads, in pieces of as many as it has.
  const bool anyHead = record.layer == kNone;
  if (!plan.launches.empty() && plan.launches.back().kernel == kernel &&
      (!anyHead || plan.launches.back().headCount < record.heads))
    ++plan.launches.back().headCount;
  else
    plan.launches.push_back({kernel, head, 1, anyHead ? head : record.headBase - heads.begin});
}

} // namespace

LaunchPlan planLaunches(const PackageReader &package, HeadRange heads, uint32_t layer,
                        uint32_t step) {
  LaunchPlan plan;
  for (uint32_t head = 0; head < heads.count; ++head)
    addHead(plan, package, heads, head, package.route(layer, heads.begin + head, step));
  return plan;
}

LaunchPlan planDense(const PackageReader &package, HeadRange heads, std::string reason) {
  LaunchPlan plan;
  plan.fallback = std::move(reason);
  for (uint32_t head = 0; head < heads.count; ++head)
    addHead(plan, package, heads, head, package.denseKernel());
  return plan;
}

} // namespace calibatt

// Visits of heads, and what they make of a launch.
#include "runtime/inspect/SiteCost.h"

#include "runtime/format/RepetitiveTiles.h"
#include "runtime/src/KernelSchedule.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <numeric>

namespace calibatt {

/// From the package's own scalars.
static uint64_t visitsByDensity(const PackageReader &package, const Site &site) {
  const Problem &p = package.manifest().problem;
  const uint64_t blocks = p.blocks();
  if (package.isRepetitive(site.layer, site.head, site.step))
    return blocks * repetitiveTiles({p.height, p.width, package.manifest().repetition.anchors},
                                    p.tokens, p.maxText);
  return uint64_t(std::llround(double(package.stats(site.layer, site.head, site.step).density) *
                               double(blocks * blocks)));
}

Result<std::vector<uint64_t>> SiteCosts::headVisits(const KernelRecord &record, uint32_t kernel,
                                                    const Site &site) const {
  std::vector<uint64_t> visits(record.heads);
  for (uint32_t h = 0; h < record.heads; ++h)
    visits[h] = visitsByDensity(package, {site.layer, record.headBase + h, site.step});
  if (std::accumulate(visits.begin(), visits.end(), uint64_t(0)) == record.visits)
    return visits;
  auto schedule = kernelSchedule(package, kernel);
  if (!schedule)
    return schedule.takeError();
  for (uint32_t h = 0; h < record.heads; ++h) {
    visits[h] = 0;
    for (uint32_t row = 0; row < schedule->rowsOf(h); ++row)
      visits[h] += schedule->row(h, row).size();
  }
  return visits;
}

Result<SiteCost> SiteCosts::of(const Site &site) {
  const Problem &p = package.manifest().problem;
  const uint32_t kernel = package.route(site.layer, site.head, site.step);
  const KernelRecord &record = package.kernel(kernel);
  if (site.head < record.headBase || site.head - record.headBase >= record.heads ||
      record.headBase + record.heads > p.heads)
    return Error{fmt::format("{}: {}: routed to kernel {}, which covers heads {}..{}",
                             package.path(), siteName(site), kernel, record.headBase,
                             int64_t(record.headBase) + record.heads - 1)};
  auto known = visitsOf.find(kernel);
  if (known == visitsOf.end()) {
    auto visits = headVisits(record, kernel, site);
    if (!visits)
      return visits.takeError();
    known = visitsOf.emplace(kernel, visits.take()).first;
  }
  const std::vector<uint64_t> &visits = known->second;
  const uint64_t all = std::accumulate(visits.begin(), visits.end(), uint64_t(0));
  SiteCost cost;
  cost.visits = visits[site.head - record.headBase];
  cost.computed = double(cost.visits) / (double(p.blocks()) * p.blocks());
  cost.predictedMicros =
      double(record.predictedMicros) * double(cost.visits) / double(std::max<uint64_t>(1, all));
  return cost;
}

std::vector<uint64_t> launchesOf(const PackageReader &package) {
  const Problem &p = package.manifest().problem;
  std::vector<uint64_t> launches(package.kernelCount());
  std::vector<uint32_t> here;
  for (uint32_t layer = 0; layer < p.layers; ++layer)
    for (uint32_t step = 0; step < p.steps; ++step) {
      here.clear();
      for (uint32_t head = 0; head < p.heads; ++head)
        here.push_back(package.route(layer, head, step));
      std::sort(here.begin(), here.end());
      here.erase(std::unique(here.begin(), here.end()), here.end());
      for (const uint32_t kernel : here)
        ++launches[kernel];
    }
  return launches;
}

} // namespace calibatt

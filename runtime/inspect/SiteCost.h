// What a site costs: its part of the launch that runs it.
#pragma once

#include "runtime/format/Package.h"
#include "runtime/inspect/Site.h"

#include <memory>
#include <unordered_map>
#include <vector>

namespace calibatt {

struct SiteCost {
  uint64_t visits = 0;        ///< key blocks computed, over all query tiles, a batch of one
  double computed = 0;        ///< these over the visits of dense attention
  double predictedMicros = 0; ///< of its launch, split by visits
};

/// Splits launches into sites. Visits follow from densities where these agree with the kernel's,
/// as they do unless masks were made larger; else its schedule is decoded, once.
class SiteCosts {
public:
  explicit SiteCosts(const PackageReader &package) : package(package) {}
  /// The site must be inside the problem.
  Result<SiteCost> of(const Site &site);

private:
  Result<std::vector<uint64_t>> headVisits(const KernelRecord &record, uint32_t kernel,
                                           const Site &site) const;

  const PackageReader &package;
  std::unordered_map<uint32_t, std::vector<uint64_t>> visitsOf; ///< by kernel: of each head
};

/// Launches of every kernel when each layer and step runs once.
std::vector<uint64_t> launchesOf(const PackageReader &package);

} // namespace calibatt

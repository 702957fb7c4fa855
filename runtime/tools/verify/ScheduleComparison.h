// Every schedule of a package, decoded and compared with its profile bit by bit: equal,
// or a superset within bounds where the package was compiled with a pass that adds blocks.
#pragma once

#include "calib_profiles/Profile.h"
#include "runtime/inspect/SiteListing.h"

#include <functional>
#include <optional>
#include <vector>

namespace calibatt {

/// One key block that only one of the two has.
struct BlockDifference {
  Site site;
  uint32_t row = 0, block = 0;
  bool inPackage = false; ///< else in the profile
};

/// What a superset package adds to one site, as shares of all its blocks.
struct SiteAddition {
  Site site;
  double density = 0; ///< added
  double bound = 0;   ///< that the package's superset passes may add here
};

struct ScheduleComparison {
  std::vector<SupersetPass> supersetPasses;      ///< of the package; none: equality is wanted
  uint64_t sites = 0, rows = 0, blocks = 0;      ///< compared
  uint64_t repetitiveSites = 0;                  ///< which have to be dense
  uint64_t differingSites = 0;                   ///< with a block that is missing or not allowed
  uint64_t onlyInPackage = 0, onlyInProfile = 0; ///< blocks: added, missing
  uint64_t notAllowed = 0;                       ///< added blocks that no superset pass may add
  std::optional<SiteAddition> largestAddition;   ///< where a superset package adds blocks
  bool sameProfile = false;                      ///< the package records this very file's digest
  uint64_t differingStats =
      0;                  ///< sites whose kept mass, density or repetition is not the profile's
  std::string firstStats; ///< what differs in the first of them
  /// Missing or not allowed, in site, row and block order, at most `limit`.
  std::vector<BlockDifference> first;

  bool wantsEquality() const { return supersetPasses.empty(); }
  bool equal() const { return onlyInPackage + onlyInProfile == 0; }
  /// No block is missing, statistics are the profile's, and no block is added but by the passes the
  /// package names.
  bool passed() const { return onlyInProfile + notAllowed + differingStats == 0; }
};

/// A block that a pass adds has to be one that the pass may add with its bound: with
/// share-steps, one of the steps that the site may share with. Added density is thus
/// bounded site by site.
/// Fails, naming both files, where they are of different problems (sizes, model, dtype, scale,
/// steps, rule of repetition), where the package
/// names a pass that is not known here, and where either cannot be read. At most `limit`
/// differences are listed; all are counted. A thread a CPU compares layers, one at a time each;
/// `progress` may be empty.
using ComparedLayers = std::function<void(size_t done, size_t total)>;
Result<ScheduleComparison> compareSchedules(const PackageReader &package,
                                            const ProfileReader &profile, size_t limit,
                                            const ComparedLayers &progress = {});
/// "layer 0, head 1, step 2: row 3: key block 5 is in the profile but not in the package".
std::string differenceText(const BlockDifference &difference);

} // namespace calibatt

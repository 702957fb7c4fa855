// Every schedule of a package, decoded and compared with its profile bit by bit.
#pragma once

#include "calib_profiles/Profile.h"
#include "runtime/inspect/SiteListing.h"

#include <vector>

namespace calibatt {

/// One key block that only one of the two has.
struct BlockDifference {
  Site site;
  uint32_t row = 0, block = 0;
  bool inPackage = false; ///< else in the profile
};

struct ScheduleComparison {
  uint64_t sites = 0, rows = 0, blocks = 0; ///< compared
  uint64_t repetitiveSites = 0;             ///< which have to be dense
  uint64_t differingSites = 0;
  uint64_t onlyInPackage = 0, onlyInProfile = 0; ///< blocks
  bool sameProfile = false;                      ///< the package records this very file's digest
  std::vector<BlockDifference> first;            ///< in site, row and block order, at most `limit`

  bool equal() const { return differingSites == 0; }
};

/// Fails, naming both files, where they are of different problems, and where
/// either cannot be read. At most `limit` differences are listed; all are counted.
Result<ScheduleComparison> compareSchedules(const PackageReader &package,
                                            const ProfileReader &profile, size_t limit);
/// "layer 0, head 1, step 2: row 3: key block 5 is in the profile but not in the package".
std::string differenceText(const BlockDifference &difference);

} // namespace calibatt

// The schedule of a site, read back from what the device reads.
#pragma once

#include "runtime/format/ScheduleImage.h"
#include "runtime/inspect/SiteListing.h"
#include "runtime/inspect/mask/SiteMask.h"

#include <nlohmann/json.hpp>

namespace calibatt {

/// One head of a schedule.
struct SiteSchedule {
  Site site;
  SiteRow row;
  uint32_t headInSchedule = 0;
  Schedule schedule;

  /// Key blocks of a query block, descending.
  const std::vector<uint16_t> &keyBlocks(uint32_t queryBlock) const {
    return schedule.row(headInSchedule, queryBlock);
  }
};

/// The site must be inside the problem.
Result<SiteSchedule> siteSchedule(const PackageReader &package, const Site &site);

/// "0-3 7 9-12": ascending runs of key blocks.
std::string runsText(const std::vector<uint16_t> &descendingBlocks);
VideoShape shapeOf(const Problem &problem);
/// The mask of a site from the schedule of its kernel, with the anchor rows that are computed.
SiteMask siteMask(const Site &site, const KernelRecord &kernel, const Schedule &schedule);

/// What `inspect show --schedule` prints.
std::string scheduleText(const SiteSchedule &schedule, const Problem &problem,
                         const TextStyle &style);
nlohmann::ordered_json scheduleJson(const SiteSchedule &schedule);

} // namespace calibatt

// Feeds the sites of a counts file to a HeadSelector.
#include "calib_profiles/CountsSelection.h"
#include "calib_profiles/ProfileHeader.h"

#include <fmt/format.h>

namespace calibatt {

Result<CountsSelection> CountsSelection::create(const CountsReader &counts,
                                                const SelectionOptions &options) {
  if (counts.interrupted())
    return Error{
        fmt::format("{}: prompt {} is half folded in", counts.path(), *counts.interrupted())};
  if (counts.prompts().empty())
    return Error{fmt::format("{}: has no prompts yet, wanted 1 or more", counts.path())};
  CountsSelection selection(counts);
  ProfileHeader &h = selection.profileHeader;
  h = counts.header();
  if (!options.model.empty())
    h.model = options.model;
  h.criterion.rho = options.rho;
  h.criterion.gamma = options.gamma;
  h.criterion.hysteresis = options.hysteresis;
  h.criterion.singletons = options.singletons;
  h.tool = kToolName;
  if (Status s = validateHeader(h, counts.path()); !s)
    return s.takeError();
  return selection;
}

Result<HeadProfile> CountsSelection::head(uint32_t layer, uint32_t head,
                                          DenoisingCosts &costs) const {
  HeadSelector selector(profileHeader);
  for (uint32_t step = 0; step < profileHeader.stepCount(); ++step) {
    const uint64_t index = counts->siteIndex(layer, head, step);
    Result<SiteCounts> site = counts->site(index);
    if (!site)
      return site.takeError();
    const SiteScalars scalars = counts->scalars(index);
    selector.add(*site, scalars.score(profileHeader.prompts), scalars.rowMax);
  }
  costs += selector.costs();
  return selector.take();
}

} // namespace calibatt

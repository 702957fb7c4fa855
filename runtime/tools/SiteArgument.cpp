// The positional argument and its three options exclude each other.
#include "runtime/tools/SiteArgument.h"

#include <CLI/CLI.hpp>

namespace calibatt {

void SiteArgument::addTo(CLI::App &command, const std::string &description) {
  auto *positional = command.add_option("site", text, description);
  for (auto [name, slot] :
       {std::pair{"--layer", &layer}, std::pair{"--head", &head}, std::pair{"--step", &step}})
    command.add_option(name, *slot, "Instead of the first argument")->excludes(positional);
}

Result<Site> SiteArgument::resolve(const PackageReader &package) const {
  Site site;
  if (!text.empty()) {
    auto parsed = parseSite(text);
    if (!parsed)
      return parsed;
    site = *parsed;
  } else if (layer && head && step) {
    site = {*layer, *head, *step};
  } else {
    return Error{"no site: give LAYER,HEAD,STEP, or --layer, --head and --step"};
  }
  if (Status s = checkSite(package, site); !s)
    return s.takeError();
  return site;
}

Result<SiteFilter> SiteArgument::sites() const {
  if (!text.empty())
    return parseSites(text);
  if (layer || head || step)
    return SiteFilter{layer, head, step};
  return Error{"no site: give LAYER,HEAD,STEP, or two or three of --layer, --head and --step"};
}

} // namespace calibatt

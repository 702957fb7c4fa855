// The positional argument and its three options exclude each other.
#include "runtime/tools/SiteArgument.h"

#include <CLI/CLI.hpp>

namespace calibatt {

void SiteArgument::addTo(CLI::App &command, const std::string &description) {
  auto *positional = command.add_option("site", text, description)->type_name("L,H,S");
  for (auto [name, slot] :
       {std::pair{"--layer", &layer}, std::pair{"--head", &head}, std::pair{"--step", &step}})
    command.add_option(name, *slot, "Instead of the site")->excludes(positional);
}

void SiteArgument::require(bool several) const {
  auto wrong = [](const std::string &what) { throw CLI::ValidationError(what); };
  const bool given = !text.empty() || layer || head || step;
  if (!given)
    wrong(several ? "no site: give LAYER,HEAD,STEP, or two or three of --layer, --head and --step"
                  : "no site: give LAYER,HEAD,STEP, or --layer, --head and --step");
  auto filter = sites();
  if (!filter)
    wrong(filter.message());
  const int open = !filter->layer + !filter->head + !filter->step;
  if (several && open > 1)
    wrong("more than one of layer, head and step is open: wanted at most one, such as 0,*,3 for "
          "all heads of a step");
  if (!several && open > 0)
    wrong(text.empty() ? "no site: --layer, --head and --step are wanted, all three"
                       : parseSite(text).message());
}

Result<Site> SiteArgument::resolve(const PackageReader &package) const {
  Site site;
  if (!text.empty()) {
    auto parsed = parseSite(text);
    if (!parsed)
      return parsed;
    site = *parsed;
  } else {
    site = {layer.value_or(0), head.value_or(0), step.value_or(0)};
  }
  if (Status s = checkSite(package, site); !s)
    return s.takeError();
  return site;
}

Result<SiteFilter> SiteArgument::sites() const {
  if (!text.empty())
    return parseSites(text);
  return SiteFilter{layer, head, step};
}

} // namespace calibatt

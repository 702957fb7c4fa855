// Sites of a package as rows: what runs where, and what it costs.
#pragma once

#include "runtime/format/Package.h"
#include "runtime/inspect/SiteCost.h"

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace calibatt {

struct TextStyle;

/// Parses "L,H,S"; the error says what was found.
Result<Site> parseSite(const std::string &text);
/// Fails, naming the file and both numbers, where the site is outside the problem.
Status checkSite(const PackageReader &package, const Site &site);

/// Which sites are meant; an absent number matches all.
struct SiteFilter {
  std::optional<uint32_t> layer, head, step;
  uint64_t limit = ~uint64_t(0); ///< rows at most
};
/// Parses "L,H,S" with "*" for all of a kind.
Result<SiteFilter> parseSites(const std::string &text);

/// One row of `inspect ls`.
struct SiteRow {
  Site site;
  uint32_t kernel = 0;
  KernelRecord record;
  PackageSiteStats stats;
  bool repetitive = false; ///< as the profile had it
  SiteCost cost;
  std::string symbol;
  std::string arch;
  uint32_t registers = 0, spillStores = 0, spillLoads = 0, codeBytes = 0;
  uint32_t staticSmem = 0, dynamicSmem = 0; ///< bytes of shared memory
  uint64_t dataBytes = 0; ///< of the data image, decoded; 0 where the schedule is in the code
  Form form = Form::Runs;
};

/// The rows that pass the filter, layer-major, then head, then step.
struct SiteListing {
  std::vector<SiteRow> rows;
  std::vector<uint64_t> launches; ///< of every kernel of the package
  uint64_t matched = 0;           ///< rows before the limit
};

/// The site must be inside the problem; `costs` is of this package.
Result<SiteRow> siteRow(const PackageReader &package, const Site &site, SiteCosts &costs);
/// Fails where a filter names a layer, head or step the package has not.
Result<SiteListing> listSites(const PackageReader &package, const SiteFilter &filter);
std::string listingText(const SiteListing &listing, const TextStyle &style);
/// The sites, each with its part of its launch, and the kernels that they name, whole: over all
/// sites of a package, parts add up to launches times kernels.
nlohmann::ordered_json listingJson(const SiteListing &listing);
nlohmann::ordered_json siteRowJson(const SiteRow &row);

} // namespace calibatt

// One site's kernel as files that stand alone.
#pragma once

#include "runtime/inspect/SiteListing.h"

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace calibatt {

/// One file written.
struct ExtractedFile {
  std::string path;
  std::string what;
  uint64_t bytes = 0;
};

/// Writes the kernel of a site into `folder` (made where it is missing): a cubin
/// and a fatbin whose built-in schedule symbol holds the schedule, so that they
/// launch with a null `schedule`; the CUDA text; the schedule image where the
/// form has one. Files are named L0-H1-S2. The site must be inside the
/// problem. Each file appears whole or not at all.
Result<std::vector<ExtractedFile>> extractSite(const PackageReader &package, const Site &site,
                                               const std::string &folder);
std::string extractText(const std::vector<ExtractedFile> &files, const SiteRow &row,
                        const TextStyle &style);
nlohmann::ordered_json extractJson(const std::vector<ExtractedFile> &files, const SiteRow &row);

} // namespace calibatt

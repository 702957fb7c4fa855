// Counts and their stability as aligned text and as JSON.
#pragma once

#include "calib_profiles/Stability.h"
#include "runtime/inspect/TextTable.h"

#include <nlohmann/json.hpp>

#include <string>

namespace calibatt {

/// What counts are of and how many prompts they have; nothing of the sites but scalars.
std::string countsText(const CountsReader &counts, uint64_t fileBytes, const TextStyle &style);
nlohmann::ordered_json countsJson(const CountsReader &counts, uint64_t fileBytes);

/// Means over all sites, keep frequencies, a table a step and a table a layer.
std::string stabilityText(const std::string &path, const StabilityReport &report,
                          const TextStyle &style);
/// The same, and layers by steps and by heads.
nlohmann::ordered_json stabilityJson(const std::string &path, const StabilityReport &report);

} // namespace calibatt

// A package as a whole: what `inspect info` says.
#pragma once

#include "runtime/format/Package.h"

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace calibatt {

struct TextStyle;

/// Aggregates over all sites and kernels of a package.
struct PackageSummary {
  struct FormCount {
    const char *kind = ""; ///< the form, or "calibration"
    uint32_t codeImages = 0, kernels = 0;
    uint64_t sites = 0;
    uint64_t codeBytes = 0, dataBytes = 0; ///< machine code; decoded schedules
  };
  /// How many sites one kernel or one schedule serves, over those that serve any.
  struct Sharing {
    uint64_t count = 0; ///< kernels or schedules
    uint64_t sites = 0, mostSites = 0;
    double meanSites() const { return count ? double(sites) / double(count) : 0; }
  };
  /// A head that is repetitive at some of its steps.
  struct RepetitiveHead {
    uint32_t layer = 0, head = 0, steps = 0;
  };
  std::vector<FormCount> forms; ///< those present, most unrolled first
  /// Kernels may share a schedule: equal data images, or for unrolled forms equal code.
  Sharing kernels, schedules;
  std::vector<RepetitiveHead> repetitiveHeads; ///< layer-major
  uint64_t repetitiveSites = 0;
  uint64_t sites = 0;
  double meanComputed = 0;
  /// Over the sites; none where passes made masks larger and only schedules tell by how much.
  std::optional<std::pair<double, double>> computedRange;
  double meanKeptMass = 0, minKeptMass = 0, maxKeptMass = 0;
  uint64_t visits = 0;        ///< of every layer and step once, a batch of one
  double predictedMicros = 0; ///< of these launches
};

/// "share-steps 0.97": passes with their bounds, empty without any.
std::string supersetText(const std::vector<SupersetPass> &passes);
/// Array of {name, bound}.
nlohmann::ordered_json supersetJson(const std::vector<SupersetPass> &passes);
Result<PackageSummary> summarise(const PackageReader &package);
std::string summaryText(const PackageReader &package, const PackageSummary &summary,
                        const TextStyle &style);
nlohmann::ordered_json summaryJson(const PackageReader &package, const PackageSummary &summary);

} // namespace calibatt

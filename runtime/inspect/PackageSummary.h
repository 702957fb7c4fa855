// A package as a whole: what `inspect info` says.
#pragma once

#include "runtime/format/Package.h"

#include <nlohmann/json.hpp>
#include <string>

namespace calibatt {

struct TextStyle;

/// Aggregates over all sites and kernels of a package.
struct PackageSummary {
  struct FormCount {
    Form form = Form::Runs;
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
  double meanDensity = 0, minDensity = 0, maxDensity = 0;
  double meanKeptMass = 0, minKeptMass = 0, maxKeptMass = 0;
  uint64_t visits = 0; ///< of the kernels of all sites, one batch entry
};

/// "share-steps 0.97": passes with their bounds, empty without any.
std::string supersetText(const std::vector<SupersetPass> &passes);
/// Array of {name, bound}.
nlohmann::ordered_json supersetJson(const std::vector<SupersetPass> &passes);
PackageSummary summarise(const PackageReader &package);
std::string summaryText(const PackageReader &package, const TextStyle &style);
nlohmann::ordered_json summaryJson(const PackageReader &package);

} // namespace calibatt

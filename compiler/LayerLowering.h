// One layer of a profile through MLIR and out again as plain data: the only
// part of the driver that sees the dialect.
#pragma once

#include "codegen/KernelPlan.h"
#include "compiler/CompileOptions.h"
#include "runtime/format/Package.h"
#include "runtime/format/ScheduleEncoder.h"

#include <cstdint>
#include <string>
#include <vector>

namespace calibatt {

class ProfileReader;

/// A kernel, ready to compile and to package.
struct LayerKernel {
  std::string symbol, cuda; ///< entry name and translation unit
  Form form = Form::Runs;
  uint32_t dynamicSmem = 0;
  bool persistent = false;     ///< CTAs walk lists of tiles
  uint32_t schedule = kNone;   ///< of LoweredLayer::schedules; none for `full` and `schedule`
  uint64_t dataBytes = 0;      ///< of its data image
  std::vector<uint16_t> order; ///< empty where record.orderRule gives it
  KernelRecord record;         ///< all but the indices code, data and order
  uint64_t predictedCodeBytes = 0;
  double predictedSeconds = 0; ///< of compiling its code
};

/// The kernel of a site.
struct SiteRoute {
  uint32_t head = 0, step = 0;
  size_t kernel = 0; ///< index in LoweredLayer::kernels
};

/// What is equal is kept once: how much there was of it, and how much is left.
struct Deduplication {
  uint64_t sites = 0;
  uint64_t profileMasks = 0; ///< distinct, of the layer's sites that are not repetitive
  uint64_t masks = 0;        ///< after the superset passes
  uint64_t rows = 0;         ///< of the distinct schedules
  uint64_t rowClasses = 0;
};

/// Everything a package holds of a layer, its bulk compressed.
struct LoweredLayer {
  std::vector<LayerKernel> kernels;
  std::vector<StoredSchedule> schedules; ///< distinct
  std::vector<SiteRoute> routes;         ///< one a site
  CompressedItem storedIr;               ///< text after the passes
  Deduplication dedup;
  std::vector<std::string> remarks;
  std::vector<std::string> warnings; ///< each behind the path of the profile
};

/// Imports a layer and runs the passes. The error is the first diagnostic, with its site. Safe from
/// several threads.
Result<LoweredLayer> lowerLayer(const ProfileReader &profile, uint32_t layer,
                                const CompileOptions &options);

/// The dense fallback kernel of a profile: a layer with that kernel and no route.
Result<LoweredLayer> lowerDenseKernel(const ProfileReader &profile, const CompileOptions &options);

/// The text of `storedIr`.
Result<std::string> irText(const LoweredLayer &layer);

} // namespace calibatt

// One layer of a profile through MLIR and out again as plain data: the only
// part of the driver that sees the dialect.
#pragma once

#include "codegen/KernelPlan.h"
#include "compiler/CompileOptions.h"
#include "runtime/format/Package.h"

#include <cstdint>
#include <string>
#include <vector>

namespace calibatt {

class ProfileReader;

/// A kernel, ready to compile and to package. Row data are in their final
/// bytes: the lists they came from are much larger.
struct LayerKernel {
  std::string symbol, cuda; ///< entry name and translation unit
  Form form = Form::Runs;
  uint32_t dynamicSmem = 0;
  bool persistent = false;   ///< CTAs walk lists of tiles
  std::vector<uint8_t> data; ///< data image, empty for `full` and `schedule`
  std::vector<uint16_t> order;
  KernelRecord record; ///< all but the indices code, data and order
  uint64_t predictedCodeBytes = 0;
  double predictedSeconds = 0; ///< of compiling its code
};

/// The kernel of a site.
struct SiteRoute {
  uint32_t head = 0, step = 0;
  size_t kernel = 0; ///< index in LoweredLayer::kernels
};

/// Everything a package holds of a layer.
struct LoweredLayer {
  std::vector<LayerKernel> kernels;
  std::vector<SiteRoute> routes; ///< one a site
  std::string ir;                ///< after the passes
  std::vector<std::string> remarks;
};

/// Imports a layer and runs the passes, whose warnings and remarks go to `events` at once.
/// The error is the first diagnostic, with its site. Safe from several threads.
Result<LoweredLayer> lowerLayer(const ProfileReader &profile, uint32_t layer,
                                const CompileOptions &options, const CompileEvents &events);

/// The dense fallback kernel of a profile: a layer with that kernel and no route.
Result<LoweredLayer> lowerDenseKernel(const ProfileReader &profile, const CompileOptions &options,
                                      const CompileEvents &events);

} // namespace calibatt

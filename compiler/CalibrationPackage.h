// A package to calibrate with: kernels that leave block energies beside dense attention,
// for a model's shape and no profile.
#pragma once

#include "compiler/CompileOptions.h"
#include "compiler/CompileReport.h"
#include "runtime/format/Result.h"

namespace calibatt {

/// The shape that the kernels are compiled for.
struct CalibrationShape {
  std::string model = "calibration";
  uint32_t frames = 0, height = 0, width = 0; ///< patch grid
  uint32_t text = 0;                          ///< text tokens behind the video, at most
  uint32_t heads = 0, headDim = 128;
  uint32_t anchors = 5; ///< rows a frame that repetition is scored against
  double scale = 0;     ///< of the logits; 0: 1 / sqrt(headDim)
};

/// Writes `options.output`: one layer and step whose sites all run the dense kernel, and
/// the calibration kernels as code images no kernel record names. Of the options, output,
/// arch, tuning, jobs, cacheFolder and dumpFolder count. Fails as compilePackage() does.
Result<CompileReport> compileCalibration(const CalibrationShape &shape,
                                         const CompileOptions &options,
                                         const CompileEvents &events);

} // namespace calibatt

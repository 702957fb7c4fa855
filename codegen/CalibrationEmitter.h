// The kernels that a calibration runs, as CUDA text: dense attention that leaves block
// energies, and what is done with them on the GPU.
#pragma once

#include "codegen/device/spec.cuh"
#include "runtime/format/CalibrationParams.h"

#include <cstdint>
#include <string>
#include <vector>

namespace calibatt {

/// One translation unit.
struct CalibrationSource {
  std::string symbol, cuda;
  uint32_t dynamicSmem = 0;
};

/// Those a shape has: the ones that score repetition only with anchors in the spec, and not for
/// grids of very many spatial rows.
std::vector<CalibrationKernel> calibrationKernels(const AttentionSpec &spec);

/// A pure function of the spec.
CalibrationSource emitCalibration(CalibrationKernel kernel, const AttentionSpec &spec);

} // namespace calibatt

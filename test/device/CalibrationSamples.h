// The calibration kernels of the emulation tests: what EmitSamples prints and they run.
#pragma once

#include "codegen/CalibrationEmitter.h"

#include <cmath>
#include <vector>

namespace calibatt::test {

struct CalibrationSample {
  CalibrationKernel kernel;
  AttentionSpec spec;
};

inline const char *calibrationParams(CalibrationKernel kernel) {
  switch (kernel) {
  case CalibrationKernel::Energy:
  case CalibrationKernel::WeightedEnergy:
    return "EnergyParams";
  case CalibrationKernel::Norms:
    return "NormParams";
  case CalibrationKernel::Cover:
    return "CoverParams";
  case CalibrationKernel::PairLse:
  case CalibrationKernel::SelfLse:
    return "LseParams";
  case CalibrationKernel::Repetition:
    return "RepetitionParams";
  }
  return "";
}

inline CalibrationSample calibrationSample(CalibrationKernel kernel, int headDim, int tokens,
                                           bool lazy = true) {
  AttentionSpec spec;
  spec.head_dim = headDim;
  spec.tokens = tokens;
  spec.scale = 1.0f / std::sqrt(float(headDim));
  spec.lazy_rescale = lazy;
  return {kernel, spec};
}

/// Of frames of a grid, with anchors.
inline CalibrationSample anchoredSample(CalibrationKernel kernel, int headDim, int frames,
                                        const AnchorGrid &grid) {
  CalibrationSample sample =
      calibrationSample(kernel, headDim, frames * int(grid.height * grid.width));
  sample.spec.grid_height = int(grid.height);
  sample.spec.grid_width = int(grid.width);
  sample.spec.anchors = int(grid.anchors);
  return sample;
}

/// Lengths that are no multiple of a tile but one that is, a single block, a single token.
inline std::vector<CalibrationSample> calibrationSamples() {
  using enum CalibrationKernel;
  return {
      calibrationSample(Energy, 128, 300),
      calibrationSample(Energy, 64, 420),
      calibrationSample(Energy, 64, 1300, false),
      calibrationSample(Energy, 64, 1),
      calibrationSample(Energy, 128, 256),
      calibrationSample(WeightedEnergy, 128, 300),
      calibrationSample(WeightedEnergy, 64, 1217),
      calibrationSample(Norms, 64, 420),
      calibrationSample(Cover, 128, 120 * 128 - 5),
      calibrationSample(Cover, 128, 591 * 128 - 48),
      // Three kernels a problem, one after another.
      anchoredSample(PairLse, 128, 3, {7, 20, 3}),
      anchoredSample(SelfLse, 128, 3, {7, 20, 3}),
      anchoredSample(Repetition, 128, 3, {7, 20, 3}),
      anchoredSample(PairLse, 64, 2, {6, 53, 2}),
      anchoredSample(SelfLse, 64, 2, {6, 53, 2}),
      anchoredSample(Repetition, 64, 2, {6, 53, 2}),
  };
}

} // namespace calibatt::test

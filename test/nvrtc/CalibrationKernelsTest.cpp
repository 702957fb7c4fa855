// The calibration kernels, compiled: what they are made of, counted in the PTX.
#include "Nvrtc.h"
#include "PtxFlow.h"
#include "codegen/CalibrationEmitter.h"

#include <cmath>

using namespace calibatt;
using namespace calibatt::test;

namespace {

AttentionSpec calibrationSpec(int headDim) {
  AttentionSpec spec;
  spec.head_dim = headDim;
  spec.tokens = 3 * 7 * 60 * (headDim == 64 ? 1 : 5); // no multiple of a tile
  spec.scale = 1 / std::sqrt(float(headDim));
  spec.grid_height = 7;
  spec.grid_width = 60;
  spec.anchors = 5;
  return spec;
}

CompiledKernel compileCalibration(CalibrationKernel kernel, const AttentionSpec &spec) {
  const CalibrationSource source = emitCalibration(kernel, spec);
  auto compiled = nvrtc().compile(source.cuda, source.symbol, sm90a());
  REQUIRE_MESSAGE(compiled, (compiled ? "" : compiled.message()));
  CHECK(compiled->report.spillStores == 0);
  CHECK(compiled->report.spillLoads == 0);
  CHECK(compiled->report.stackBytes == 0);
  CHECK(source.dynamicSmem <= uint32_t(kMaxSmemBytes));
  return compiled.take();
}

} // namespace

TEST_CASE("calibration kernels compile without spills, and what multiplies has one loop of wgmma") {
  for (int headDim : {64, 128}) {
    const AttentionSpec spec = calibrationSpec(headDim);
    const size_t product = size_t(headDim) / 16;
    REQUIRE(calibrationKernels(spec).size() == kCalibrationKernels);
    for (const CalibrationKernel kernel : calibrationKernels(spec)) {
      CAPTURE(headDim);
      CAPTURE(calibrationName(kernel));
      const CompiledKernel compiled = compileCalibration(kernel, spec);
      size_t wgmma = 0;
      for (const PtxLoop &loop : ptxLoops(compiled.ptx))
        wgmma = std::max(wgmma, loop.wgmma);
      switch (kernel) {
      case CalibrationKernel::Energy:
      case CalibrationKernel::WeightedEnergy:
        CHECK(compiled.report.registers == 168);
        CHECK(wgmma == product + 8);
        break;
      case CalibrationKernel::PairLse:
        CHECK(compiled.report.registers == 168);
        CHECK(wgmma == 2 * product);
        break;
      case CalibrationKernel::SelfLse:
        CHECK(compiled.report.registers == 168);
        CHECK(wgmma == product);
        break;
      case CalibrationKernel::Norms:
      case CalibrationKernel::Cover:
      case CalibrationKernel::Repetition:
        CHECK(wgmma == 0);
      }
    }
  }
}

TEST_CASE("grids without rows to copy have no kernels that score repetition") {
  AttentionSpec spec = calibrationSpec(128);
  spec.grid_height = spec.grid_width = spec.anchors = 0;
  CHECK(calibrationKernels(spec).size() == 4);
  spec.tokens = 40000;
  spec.grid_height = 40000; // frames of one column
  spec.grid_width = 1;
  spec.anchors = 5;
  CHECK(calibrationKernels(spec).size() == 4);
}

TEST_CASE("kernels that do not look at the grid are the same for every grid") {
  AttentionSpec spec = calibrationSpec(128), other = spec;
  other.grid_height = 14;
  other.grid_width = 30;
  for (const CalibrationKernel kernel : calibrationKernels(spec)) {
    const bool looks =
        kernel == CalibrationKernel::PairLse || kernel == CalibrationKernel::Repetition;
    CAPTURE(calibrationName(kernel));
    CHECK((emitCalibration(kernel, spec).symbol == emitCalibration(kernel, other).symbol) ==
          !looks);
  }
}

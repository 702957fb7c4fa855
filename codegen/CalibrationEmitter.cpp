#include "codegen/CalibrationEmitter.h"

#include "codegen/SpecText.h"
#include "codegen/device/calibration_spec.cuh"
#include "runtime/format/Hash.h"

#include <fmt/format.h>

namespace calibatt {

namespace {

/// What is different from one kernel to the next.
struct Entry {
  const char *header, *function, *params;
  int dynamicSmem = 0, ctasPerSm = 1;
};

Entry entryOf(CalibrationKernel kernel, const AttentionSpec &spec) {
  switch (kernel) {
  case CalibrationKernel::Energy:
    return {"energy_sm90", "energySm90<kSpec, false>", "EnergyParams", smemBytes(spec)};
  case CalibrationKernel::WeightedEnergy:
    return {"energy_sm90", "energySm90<kSpec, true>", "EnergyParams", smemBytes(spec)};
  case CalibrationKernel::PairLse:
  case CalibrationKernel::SelfLse:
    return {"lse_sm90", "lseSm90<kSpec>", "LseParams", lseSmemBytes(spec)};
  case CalibrationKernel::Norms:
    return {"calibration", "valueNorms<kSpec>", "NormParams", 0, 2};
  case CalibrationKernel::Cover:
    return {"calibration", "coverRows<kSpec>", "CoverParams", coverSmemBytes(blockCount(spec)), 2};
  case CalibrationKernel::Repetition:
    return {"calibration", "scoreRepetition<kSpec>", "RepetitionParams", repetitionSmemBytes(spec)};
  }
  return {};
}

/// What of the spec a kernel is specialised for.
AttentionSpec specOf(CalibrationKernel kernel, const AttentionSpec &given) {
  AttentionSpec spec = withoutLists(given); // a CTA a tile
  if (kernel != CalibrationKernel::PairLse && kernel != CalibrationKernel::Repetition)
    spec.grid_height = spec.grid_width = spec.anchors = 0;
  // The logits of twice a query.
  if (kernel == CalibrationKernel::SelfLse)
    spec.scale *= 2;
  return spec;
}

} // namespace

std::vector<CalibrationKernel> calibrationKernels(const AttentionSpec &spec) {
  std::vector<CalibrationKernel> kernels = {CalibrationKernel::Energy,
                                            CalibrationKernel::WeightedEnergy,
                                            CalibrationKernel::Norms, CalibrationKernel::Cover};
  if (scoresRepetition(spec))
    for (CalibrationKernel kernel :
         {CalibrationKernel::PairLse, CalibrationKernel::SelfLse, CalibrationKernel::Repetition})
      kernels.push_back(kernel);
  return kernels;
}

CalibrationSource emitCalibration(CalibrationKernel kernel, const AttentionSpec &given) {
  const AttentionSpec spec = specOf(kernel, given);
  const Entry entry = entryOf(kernel, spec);
  const std::string before =
      fmt::format("#include \"kernels/{}.cuh\"\n\n"
                  "namespace {{\n"
                  "constexpr calibatt::AttentionSpec kSpec{};\n"
                  "}} // namespace\n\n"
                  "extern \"C\" __global__ void __launch_bounds__(384, {})\n",
                  entry.header, specText(spec), entry.ctasPerSm);
  const std::string after = fmt::format("(const __grid_constant__ calibatt::{} params) {{\n"
                                        "  calibatt::{}(params);\n"
                                        "}}\n",
                                        entry.params, entry.function);
  Sha256 hash;
  hash.update(before + after);
  CalibrationSource source;
  source.symbol = fmt::format(CALIBATT_CALIBRATION_SYMBOL "{}_{}", calibrationName(kernel),
                              toHex(hash.finish()).substr(0, 16));
  source.cuda = before + source.symbol + after;
  source.dynamicSmem = uint32_t(entry.dynamicSmem);
  return source;
}

} // namespace calibatt

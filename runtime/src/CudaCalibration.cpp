#include "runtime/src/CudaCalibration.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

namespace calibatt {
namespace {

constexpr unsigned kThreadsPerBlock = 384;
constexpr unsigned kWarpsPerBlock = kThreadsPerBlock / 32;

/// The kernels that a call launches.
std::vector<CalibrationKernel> kernelsOf(const calibatt_energy_t &energy) {
  std::vector<CalibrationKernel> kernels;
  if (energy.weighted)
    kernels.push_back(CalibrationKernel::Norms);
  kernels.push_back(energy.weighted ? CalibrationKernel::WeightedEnergy
                                    : CalibrationKernel::Energy);
  if (energy.cover)
    kernels.push_back(CalibrationKernel::Cover);
  if (energy.repetition)
    kernels.insert(kernels.end(), {CalibrationKernel::PairLse, CalibrationKernel::SelfLse,
                                   CalibrationKernel::Repetition});
  return kernels;
}

uint32_t codeOf(const PackageReader &package, CalibrationKernel kernel) {
  const std::string prefix =
      fmt::format(CALIBATT_CALIBRATION_SYMBOL "{}_", calibrationName(kernel));
  for (uint32_t code = 0; code < package.codeCount(); ++code)
    if (package.codeInfo(code).symbol.starts_with(prefix))
      return code;
  return kNone;
}

uint64_t headsOf(const calibatt_call_t &call) { return uint64_t(call.batch) * call.heads; }
uint64_t blocksOf(const calibatt_call_t &call) { return (call.tokens + kBlock - 1) / kBlock; }

/// At an offset of the workspace.
float *floats(const calibatt_energy_t &energy, uint64_t offset) {
  return reinterpret_cast<float *>(static_cast<char *>(energy.workspace) + offset);
}

} // namespace

CudaCalibration::CudaCalibration(const CudaDriver &driver, const PackageReader &package,
                                 uint32_t processors)
    : driver(driver), package(package), processors(processors), uploads(driver) {
  for (uint32_t i = 0; i < kCalibrationKernels; ++i)
    codes[i] = codeOf(package, CalibrationKernel(i));
}

CudaCalibration::~CudaCalibration() {
  if (slots)
    driver.memFree(slots);
}

CudaCalibration::Layout CudaCalibration::layout(const calibatt_call_t &call,
                                                const calibatt_energy_t &energy) const {
  const uint64_t heads = headsOf(call), blocks = blocksOf(call);
  Layout layout;
  const auto take = [&](uint64_t floats) {
    const uint64_t at = layout.bytes;
    layout.bytes += (floats * sizeof(float) + 255) & ~uint64_t(255);
    return at;
  };
  // Repetition begins when the energies are there and the sums are not needed any more.
  const uint64_t rows = heads * call.tokens, sums = processors * blocks * kBlock;
  layout.sums = take(energy.repetition ? std::max(sums, 2 * rows) : sums);
  layout.pair = layout.sums;
  layout.self = layout.sums + rows * sizeof(float);
  if (energy.repetition && !call.lse)
    layout.lse = take(rows);
  if (!energy.energies)
    layout.energies = take(heads * blocks * blocks);
  if (energy.weighted)
    layout.norms = take(heads * blocks * kBlock);
  return layout;
}

uint64_t CudaCalibration::workspaceBytes(const calibatt_call_t &call,
                                         const calibatt_energy_t &energy) const {
  return layout(call, energy).bytes;
}

bool CudaCalibration::isLoaded(const CudaImages &images, const calibatt_energy_t &energy) const {
  if (!slots)
    return false;
  for (const CalibrationKernel kernel : kernelsOf(energy))
    if (codes[size_t(kernel)] == kNone || !images.loadedCode(codes[size_t(kernel)]))
      return false;
  return true;
}

Outcome CudaCalibration::load(CudaImages &images, const calibatt_energy_t &energy) {
  for (const CalibrationKernel kernel : kernelsOf(energy)) {
    if (codes[size_t(kernel)] == kNone)
      return {
          CALIBATT_STATUS_MISMATCH,
          fmt::format("{}: has no calibration kernel '{}': calibatt compile --calibration makes "
                      "packages that have",
                      package.path(), calibrationName(kernel))};
    if (Outcome loaded = images.loadCode(codes[size_t(kernel)]); !loaded.ok())
      return loaded;
  }
  if (slots)
    return {};
  std::vector<uint32_t> zeros(processors, 0);
  CuDevicePtr made = 0;
  if (Outcome allocated =
          driver.check(driver.memAlloc(&made, zeros.size() * sizeof(uint32_t)), "cuMemAlloc");
      !allocated.ok())
    return allocated;
  Outcome copied = uploads.copy(made, std::move(zeros));
  if (copied.ok())
    copied = uploads.wait();
  if (!copied.ok()) {
    driver.memFree(made);
    return copied;
  }
  slots = made;
  return {};
}

Outcome CudaCalibration::start(const CudaImages &images, CalibrationKernel kernel, uint64_t ctas,
                               CuStream stream, void *params) const {
  const uint32_t code = codes[size_t(kernel)];
  void *arguments[] = {params};
  return driver.check(driver.launchKernel(reinterpret_cast<CuFunction>(images.loadedCode(code)),
                                          unsigned(ctas), 1, 1, kThreadsPerBlock, 1, 1,
                                          package.codeInfo(code).dynamicSmem, stream, arguments,
                                          nullptr),
                      "cuLaunchKernel");
}

Outcome CudaCalibration::launch(const CudaImages &images, const calibatt_call_t &call,
                                const LaunchParams &attention,
                                const calibatt_energy_t &energy) const {
  const Layout at = layout(call, energy);
  const CuStream stream = static_cast<CuStream>(call.stream);
  const uint64_t tiles = headsOf(call) * blocksOf(call);
  EnergyParams params = {};
  params.attention = attention;
  if (energy.repetition && !call.lse) {
    params.attention.lse = floats(energy, at.lse);
    params.attention.lse_head_stride = call.tokens;
    params.attention.lse_batch_stride = int64_t(call.heads) * call.tokens;
  }
  params.sums = floats(energy, at.sums);
  params.slots = std::bit_cast<unsigned *>(slots);
  params.slot_count = processors;
  params.heads = call.heads;
  params.energies = energy.energies ? energy.energies : floats(energy, at.energies);
  params.row_max = energy.row_max;
  params.norms = floats(energy, at.norms);

  Outcome started;
  if (energy.weighted) {
    NormParams norms = {};
    norms.v = static_cast<const unsigned char *>(call.v);
    for (int i = 0; i < 3; ++i)
      norms.v_strides[i] = 2 * call.v_strides[i];
    norms.batch = call.batch;
    norms.heads = call.heads;
    norms.norms = floats(energy, at.norms);
    started = start(images, CalibrationKernel::Norms, uint64_t(processors) * 4, stream, &norms);
  }
  if (started.ok())
    started = start(images,
                    energy.weighted ? CalibrationKernel::WeightedEnergy : CalibrationKernel::Energy,
                    tiles, stream, &params);
  if (started.ok() && energy.cover)
    started = launchCover(images, call, params.energies, energy);
  if (started.ok() && energy.repetition)
    started = launchRepetition(images, call, params.attention, energy);
  return started;
}

Outcome CudaCalibration::launchCover(const CudaImages &images, const calibatt_call_t &call,
                                     const float *energies, const calibatt_energy_t &energy) const {
  const uint64_t rows = headsOf(call) * blocksOf(call);
  CoverParams cover = {};
  cover.energies = energies;
  cover.cover = energy.cover;
  cover.rows = unsigned(rows);
  cover.epsilon = energy.epsilon;
  // As many warps as rows where that fills the GPU, else rows are dealt out.
  const uint64_t ctas = (rows + kWarpsPerBlock - 1) / kWarpsPerBlock;
  return start(images, CalibrationKernel::Cover, std::min<uint64_t>(ctas, processors * 8),
               static_cast<CuStream>(call.stream), &cover);
}

Outcome CudaCalibration::launchRepetition(const CudaImages &images, const calibatt_call_t &call,
                                          const LaunchParams &attention,
                                          const calibatt_energy_t &energy) const {
  const Layout at = layout(call, energy);
  const CuStream stream = static_cast<CuStream>(call.stream);
  LseParams lse = {};
  lse.attention = attention;
  lse.heads = call.heads;
  for (const auto &[kernel, offset] : {std::pair(CalibrationKernel::PairLse, at.pair),
                                       std::pair(CalibrationKernel::SelfLse, at.self)}) {
    lse.lse = floats(energy, offset);
    if (Outcome started = start(images, kernel, headsOf(call) * blocksOf(call), stream, &lse);
        !started.ok())
      return started;
  }
  RepetitionParams score = {};
  score.lse = attention.lse;
  score.lse_batch_stride = attention.lse_batch_stride;
  score.lse_head_stride = attention.lse_head_stride;
  score.pair = floats(energy, at.pair);
  score.self = floats(energy, at.self);
  score.heads = call.heads;
  score.scores = energy.repetition;
  return start(images, CalibrationKernel::Repetition, headsOf(call), stream, &score);
}

} // namespace calibatt

// The host device: runs each launch of a call through the host executor.

#include "runtime/host/HostExecutor.h"
#include "runtime/host/HostRepetition.h"
#include "runtime/host/RowCover.h"
#include "runtime/src/CallCheck.h"
#include "runtime/src/Device.h"

namespace calibatt {
namespace {

HostStrides strides(const int64_t (&s)[3]) { return {s[0], s[1], s[2]}; }

/// The tensors of a call.
HostLaunch launchOf(const calibatt_call_t &call) {
  HostLaunch launch;
  launch.headDim = call.head_dim;
  launch.scale = call.scale;
  launch.dtype = call.dtype == CALIBATT_DTYPE_BF16 ? HostDtype::Bf16 : HostDtype::F32;
  launch.q = call.q;
  launch.k = call.k;
  launch.v = call.v;
  launch.o = call.o;
  launch.qStrides = strides(call.q_strides);
  launch.kStrides = strides(call.k_strides);
  launch.vStrides = strides(call.v_strides);
  launch.oStrides = strides(call.o_strides);
  launch.lse = call.lse;
  launch.lseBatchStride = call.lse_strides[0];
  launch.lseHeadStride = call.lse_strides[1];
  return launch;
}

/// Every block of every row.
Schedule denseSchedule(const calibatt_call_t &call) {
  Schedule schedule;
  schedule.tokens = call.tokens;
  schedule.heads = call.heads;
  schedule.queryBlocks = schedule.keyBlocks = (call.tokens + kBlock - 1) / kBlock;
  schedule.rowClass.assign(size_t(schedule.heads) * schedule.queryBlocks, 0);
  schedule.classes.emplace_back();
  for (uint32_t block = schedule.keyBlocks; block-- > 0;)
    schedule.classes.front().push_back(uint16_t(block));
  return schedule;
}

class HostDevice final : public Device {
public:
  HostDevice(SharedPackage package, uint32_t threads)
      : package(std::move(package)), threads(threads) {}

  Outcome accepts(const calibatt_call_t &) const override { return {}; }
  Outcome ready(const CheckedCall &, std::span<const KernelLaunch>) const override { return {}; }
  Outcome prewarm(std::span<const KernelLaunch>, uint32_t) override { return {}; }
  DeviceStats stats() const override { return {}; }

  Outcome run(const CheckedCall &checked, std::span<const KernelLaunch> launches) override {
    const calibatt_call_t &call = checked.call;
    for (const KernelLaunch &kernel : launches) {
      auto schedule = package->schedules.get(kernel.kernel);
      if (!schedule)
        return {CALIBATT_STATUS_BAD_PACKAGE, schedule.message()};
      HostLaunch launch = launchOf(call);
      launch.schedule = schedule->get();
      launch.headBase = kernel.headBase;
      const auto tiles = hostTiles(launch, call.batch, kernel.headBegin, kernel.headCount);
      if (Status ran = runHostTiles(launch, tiles, threads); !ran)
        return {CALIBATT_STATUS_BAD_PACKAGE, package->reader.path() + ": " + ran.message()};
    }
    return {};
  }

  uint64_t energyWorkspace(const CheckedCall &, const calibatt_energy_t &) const override {
    return 0;
  }

  Outcome energy(const CheckedCall &checked, const calibatt_energy_t &energy) override {
    const calibatt_call_t &call = checked.call;
    const Schedule schedule = denseSchedule(call);
    const size_t blocks = schedule.keyBlocks, rows = size_t(call.batch) * call.heads * blocks;
    std::vector<float> unwanted(energy.energies ? 0 : rows * blocks);
    HostEnergies energies;
    energies.heads = call.heads;
    energies.weighted = energy.weighted != 0;
    energies.energies = energy.energies ? energy.energies : unwanted.data();
    energies.rowMax = energy.row_max;
    HostLaunch launch = launchOf(call);
    launch.schedule = &schedule;
    launch.energies = &energies;
    if (Status ran = runHostTiles(launch, hostTiles(launch, call.batch, 0, call.heads), threads);
        !ran)
      return {CALIBATT_STATUS_INTERNAL, ran.message()};
    if (energy.cover)
      for (size_t row = 0; row < rows; ++row)
        coverRow({energies.energies + row * blocks, blocks}, energy.epsilon,
                 energy.cover + row * ((blocks + 7) / 8));
    if (energy.repetition)
      if (Status scored = scoreRepetition(launch, calibrationGrid(package->reader.manifest()),
                                          call.batch, call.heads, threads, energy.repetition);
          !scored)
        return {CALIBATT_STATUS_INTERNAL, scored.message()};
    return {};
  }

private:
  SharedPackage package;
  uint32_t threads;
};

} // namespace

std::unique_ptr<Device> makeHostDevice(SharedPackage package, uint32_t threads) {
  return std::make_unique<HostDevice>(std::move(package), threads);
}

} // namespace calibatt

// What a session runs on: the host, or one GPU.
#pragma once

#include "runtime/src/LaunchPlan.h"
#include "runtime/src/Outcome.h"
#include "runtime/src/PackageState.h"

#include <memory>
#include <span>

namespace calibatt {

/// A call with its defaults filled in, and found to fit the package.
struct CheckedCall {
  calibatt_call_t call = {};
  HeadRange heads; ///< of the model; the tensors hold exactly these
};

/// Counts for calibatt_session_stats.
struct DeviceStats {
  uint64_t bytes = 0;
  uint32_t codeImages = 0, dataImages = 0, tensorMaps = 0;
  uint64_t evictions = 0; ///< schedules and work lists released for want of room
  uint64_t reruns = 0;    ///< tiles computed a second time
};

class Device {
public:
  virtual ~Device() = default;
  /// What this device asks of strides, alignment and dtype beyond the package; words in `message`.
  virtual Outcome accepts(const calibatt_call_t &call) const = 0;
  /// Whether a call that fits could run at once as its stream is now: under capture everything has
  /// to be resident.
  virtual Outcome ready(const CheckedCall &call, std::span<const KernelLaunch> launches) const = 0;
  /// Makes everything resident that the launches need with `batch` entries. What other launches
  /// need may be released where the byte budget asks for it.
  virtual Outcome prewarm(std::span<const KernelLaunch> launches, uint32_t batch) = 0;
  virtual Outcome run(const CheckedCall &call, std::span<const KernelLaunch> launches) = 0;
  /// Memory of the caller's that energy() works in.
  virtual uint64_t energyWorkspace(const CheckedCall &call,
                                   const calibatt_energy_t &energy) const = 0;
  /// Dense attention and its block energies; the outputs have been checked.
  virtual Outcome energy(const CheckedCall &call, const calibatt_energy_t &energy) = 0;
  virtual DeviceStats stats() const = 0;
};

using SharedPackage = std::shared_ptr<const PackageState>;

std::unique_ptr<Device> makeHostDevice(SharedPackage package, uint32_t threads);
/// Opens libcuda.so.1, checks driver and GPU against the package.
Outcome makeCudaDevice(SharedPackage package, int ordinal, uint64_t byteBudget, uint32_t threads,
                       std::unique_ptr<Device> &device);

} // namespace calibatt

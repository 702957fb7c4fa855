// A package on a device through the C ABI, called with tensors that live on the host.
#pragma once

#include "runtime/format/Result.h"
#include "runtime/include/calibatt/calibatt.h"
#include "runtime/tools/verify/TestTensors.h"

#include <memory>
#include <string>
#include <vector>

namespace calibatt {

/// The ordinal of "cuda" (0) or "cuda:N", -1 for "host"; anything else is an error.
Result<int> deviceOrdinal(const std::string &name);
/// Empty, or why it is no device: the check of a command-line option.
std::string deviceNameProblem(const std::string &name);

/// What time() measured.
struct CallTimes {
  std::vector<double> seconds; ///< one a run
  /// Median over the runs of the SM clock, in MHz, and of the power, in watts; 0 where not known.
  double megahertz = 0, watts = 0;
  bool throttled = false; ///< in any run, by power or heat
  double reruns = 0; ///< tiles a run whose frozen maximum did not do (calibatt_session_stats_t)
};

class DeviceSession {
public:
  /// `device` is what deviceOrdinal() takes. Calls outside the package's layers
  /// and steps run its dense kernel.
  static Result<DeviceSession> open(const std::string &packagePath, const std::string &device);
  DeviceSession(DeviceSession &&) noexcept;
  DeviceSession &operator=(DeviceSession &&) noexcept;
  ~DeviceSession();

  bool onHost() const;
  /// "host, float32 tensors" or the GPU's name and its tensors' type.
  const std::string &description() const;
  /// One calibatt_attention call: float32 tensors on the host, bf16 on a GPU.
  /// Outputs are NaN before it; without `lse` the call does not ask for it and it stays so.
  Result<TestOutputs> attention(const TestTensors &tensors, uint32_t layer, uint32_t step,
                                bool lse = true);
  /// `runs` calls after `warmup` others, prewarmed and without LSE: between two
  /// events of the stream on a GPU, by the clock on the host.
  Result<CallTimes> time(const TestTensors &tensors, uint32_t layer, uint32_t step, uint32_t warmup,
                         uint32_t runs);
  /// Tiles computed a second time since it was opened; 0 on the host.
  uint64_t reruns() const;
  /// Dense bf16 FLOP a clock of the GPU's tensor cores; 0 on the host and where not known.
  double flopsPerClock() const;

private:
  struct Impl;
  explicit DeviceSession(std::unique_ptr<Impl>);
  std::unique_ptr<Impl> impl;
};

} // namespace calibatt

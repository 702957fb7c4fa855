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
  /// Outputs are NaN before it.
  Result<TestOutputs> attention(const TestTensors &tensors, uint32_t layer, uint32_t step);
  /// Seconds of each of `runs` calls after `warmup` others, prewarmed: between
  /// two events of the stream on a GPU, by the clock on the host.
  Result<std::vector<double>> time(const TestTensors &tensors, uint32_t layer, uint32_t step,
                                   uint32_t warmup, uint32_t runs);

private:
  struct Impl;
  explicit DeviceSession(std::unique_ptr<Impl>);
  std::unique_ptr<Impl> impl;
};

} // namespace calibatt

// Clock and power of a GPU while it works, through NVIDIA's management library, where that is.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

namespace calibatt {

/// What the management library says at one moment.
struct GpuSample {
  uint32_t smMegahertz = 0;
  double watts = 0;
  bool throttled = false; ///< by power or heat
};

class GpuState {
public:
  /// The GPU at this PCI address ("00000000:01:00.0"); null where libnvidia-ml.so.1 is missing or
  /// does not know it: then nothing is reported, and nothing fails.
  static std::unique_ptr<GpuState> open(const std::string &pciAddress);
  ~GpuState();
  GpuState(const GpuState &) = delete;
  GpuState &operator=(const GpuState &) = delete;

  std::optional<GpuSample> sample() const;

private:
  GpuState() = default;

  using Handle = struct NvmlDeviceOpaque *;
  void *library = nullptr;
  Handle handle = nullptr;
  bool initialised = false;
  int (*shutdown)() = nullptr;
  int (*clockInfo)(Handle, int, unsigned *) = nullptr;
  int (*powerUsage)(Handle, unsigned *) = nullptr;
  int (*throttleReasons)(Handle, unsigned long long *) = nullptr;
};

} // namespace calibatt

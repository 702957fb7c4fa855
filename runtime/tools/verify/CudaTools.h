// What verify and bench need of the CUDA driver beyond the runtime: memory that
// comes back, events, and the name of the GPU.
#pragma once

#include "runtime/format/Result.h"
#include "runtime/src/CudaDriver.h"

#include <memory>
#include <string>
#include <vector>

namespace calibatt {

/// One GPU with its primary context current on this thread until destroyed.
class CudaTools {
public:
  static Result<std::unique_ptr<CudaTools>> open(int ordinal);
  ~CudaTools();
  CudaTools(const CudaTools &) = delete;
  CudaTools &operator=(const CudaTools &) = delete;

  const std::string &name() const { return deviceName; }
  /// "00000000:01:00.0", empty where the driver does not say.
  const std::string &pciAddress() const { return pci; }
  /// Dense bf16 FLOP a clock of the whole GPU, 0 for architectures whose tensor cores are not
  /// known.
  double flopsPerClock() const { return denseFlopsPerClock; }

  /// Device memory, freed by release() or with this object.
  Result<CuDevicePtr> allocate(size_t bytes);
  Result<CuDevicePtr> upload(const void *from, size_t bytes);
  /// Waits for the default stream first.
  Status download(void *to, CuDevicePtr from, size_t bytes);
  void release();

  /// Seconds from one event of the default stream to another: create with
  /// startTimer(), read with stopTimer(), which waits.
  Status startTimer();
  Result<double> stopTimer();

private:
  CudaTools() = default;
  Status check(CuResult result, const char *function) const;
  Status resolve();

  using Event = struct CuEventOpaque *;
  const CudaDriver *driver = nullptr;
  CuDevice device = -1;
  CuContext context = nullptr;
  bool retained = false, pushed = false;
  std::string deviceName, pci;
  double denseFlopsPerClock = 0;
  std::vector<CuDevicePtr> allocations;
  Event begin = nullptr, end = nullptr;

  // Functions of the driver that the runtime itself does not need.
  CuResult (*getName)(char *, int, CuDevice) = nullptr;
  CuResult (*getPciBusId)(char *, int, CuDevice) = nullptr;
  CuResult (*memcpyDtoH)(void *, CuDevicePtr, size_t) = nullptr;
  CuResult (*memcpyHtoD)(CuDevicePtr, const void *, size_t) = nullptr;
  CuResult (*eventCreate)(Event *, unsigned) = nullptr;
  CuResult (*eventRecord)(Event, CuStream) = nullptr;
  CuResult (*eventSynchronize)(Event) = nullptr;
  CuResult (*eventElapsed)(float *, Event, Event) = nullptr;
  CuResult (*eventDestroy)(Event) = nullptr;
};

} // namespace calibatt

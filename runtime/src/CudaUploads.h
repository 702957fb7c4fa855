// Copies to the device on a stream of our own: they wait for no stream of the host program and
// none waits for them, and they are legal beside a stream capture. Not synchronised.
#pragma once

#include "runtime/src/CudaDriver.h"

#include <cstddef>

namespace calibatt {

class CudaUploads {
public:
  explicit CudaUploads(const CudaDriver &driver) : driver(driver) {}
  ~CudaUploads(); ///< the context has to be current
  CudaUploads(const CudaUploads &) = delete;
  CudaUploads &operator=(const CudaUploads &) = delete;

  /// From pageable memory, which may change as soon as this returns.
  Outcome copy(CuDevicePtr to, const void *from, size_t bytes);
  /// Until every copy has arrived, for kernels on any stream to read.
  Outcome wait();

private:
  const CudaDriver &driver;
  CuStream stream = nullptr; ///< made by the first copy
};

} // namespace calibatt

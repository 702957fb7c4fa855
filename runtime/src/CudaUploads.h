// Copies to the device on a stream of our own: they wait for no stream of the host program and
// none waits for them, and they are legal beside a stream capture. Not synchronised.
#pragma once

#include "runtime/src/CudaDriver.h"

#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

namespace calibatt {

class CudaUploads {
public:
  explicit CudaUploads(const CudaDriver &driver) : driver(driver) {}
  ~CudaUploads(); ///< the context has to be current
  CudaUploads(const CudaUploads &) = delete;
  CudaUploads &operator=(const CudaUploads &) = delete;

  /// Keeps the source until wait(): no driver promises to have read pageable memory when an
  /// asynchronous copy returns.
  template <typename T> Outcome copy(CuDevicePtr to, std::vector<T> source) {
    const auto kept = std::make_shared<const std::vector<T>>(std::move(source));
    sources.push_back(kept);
    return start(to, kept->data(), kept->size() * sizeof(T));
  }
  /// Until every copy has arrived, for kernels on any stream to read.
  Outcome wait();

private:
  Outcome start(CuDevicePtr to, const void *from, size_t bytes);

  const CudaDriver &driver;
  CuStream stream = nullptr;                        ///< made by the first copy
  std::vector<std::shared_ptr<const void>> sources; ///< of copies that were not waited for
};

} // namespace calibatt

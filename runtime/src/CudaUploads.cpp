#include "runtime/src/CudaUploads.h"

namespace calibatt {

CudaUploads::~CudaUploads() {
  if (stream)
    driver.streamDestroy(stream);
}

Outcome CudaUploads::copy(CuDevicePtr to, const void *from, size_t bytes) {
  if (!stream)
    if (Outcome made =
            driver.check(driver.streamCreate(&stream, kCuStreamNonBlocking), "cuStreamCreate");
        !made.ok()) {
      stream = nullptr;
      return made;
    }
  return driver.check(driver.memcpyHtoDAsync(to, from, bytes, stream), "cuMemcpyHtoDAsync");
}

Outcome CudaUploads::wait() {
  if (!stream)
    return {};
  return driver.check(driver.streamSynchronize(stream), "cuStreamSynchronize");
}

} // namespace calibatt

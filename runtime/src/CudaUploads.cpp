#include "runtime/src/CudaUploads.h"

namespace calibatt {

CudaUploads::~CudaUploads() {
  if (!sources.empty())
    (void)wait();
  if (stream)
    driver.streamDestroy(stream);
}

Outcome CudaUploads::start(CuDevicePtr to, const void *from, size_t bytes) {
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
  Outcome waited = driver.check(driver.streamSynchronize(stream), "cuStreamSynchronize");
  if (waited.ok())
    sources.clear();
  return waited;
}

} // namespace calibatt

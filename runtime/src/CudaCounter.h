// A count that kernels add to and the host reads: in page-locked host memory that the GPU sees, so
// that reading it asks nothing of the driver, waits for nothing and is legal under capture.
#pragma once

#include "runtime/src/CudaDriver.h"

#include <cstdint>

namespace calibatt {

class CudaCounter {
public:
  explicit CudaCounter(const CudaDriver &driver) : driver(driver) {}
  ~CudaCounter() { ///< the context has to be current
    if (word)
      driver.memFreeHost(word);
  }
  CudaCounter(const CudaCounter &) = delete;
  CudaCounter &operator=(const CudaCounter &) = delete;

  /// Allocates it, at 0, unless it is there.
  Outcome make() {
    if (word)
      return {};
    void *made = nullptr;
    // With unified addressing the GPU knows it by the same address.
    if (Outcome allocated =
            driver.check(driver.memHostAlloc(&made, sizeof *word, kCuHostPortable | kCuHostMapped),
                         "cuMemHostAlloc");
        !allocated.ok())
      return allocated;
    word = static_cast<unsigned long long *>(made);
    *word = 0;
    return {};
  }
  unsigned long long *address() const { return word; }
  /// Of the launches that have ended; others may be in it in part.
  uint64_t value() const { return word ? __atomic_load_n(word, __ATOMIC_RELAXED) : 0; }

private:
  const CudaDriver &driver;
  unsigned long long *word = nullptr;
};

} // namespace calibatt

// Lets a thread allocate, load and free beside somebody's stream capture.
#pragma once

#include "runtime/src/CudaDriver.h"

namespace calibatt {

/// While one exists, calls of this thread that the driver holds to be unsafe under capture
/// (cuMemAlloc, cuMemFree, loading and unloading code, waiting for a stream) are allowed. Without
/// it they fail while any stream of the process is captured in global mode, or one of this thread
/// in thread-local mode, and the capture is lost: that of a host program, not ours. They are not
/// part of any capture, so memory is there and copied to when the scope ends. Work is never put on
/// the legacy default stream inside: that would be refused beside a capture of a blocking stream.
class RelaxedCapture {
public:
  explicit RelaxedCapture(const CudaDriver &driver) : driver(driver) {
    entered = driver.check(driver.exchangeCaptureMode(&mode), "cuThreadExchangeStreamCaptureMode");
  }
  ~RelaxedCapture() {
    if (entered.ok())
      driver.exchangeCaptureMode(&mode);
  }
  RelaxedCapture(const RelaxedCapture &) = delete;
  RelaxedCapture &operator=(const RelaxedCapture &) = delete;
  const Outcome &outcome() const { return entered; }

private:
  const CudaDriver &driver;
  int mode = kCuCaptureModeRelaxed; ///< then the thread's own
  Outcome entered;
};

} // namespace calibatt

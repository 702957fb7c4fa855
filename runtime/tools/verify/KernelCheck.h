// Runs the kernels of a package on random inputs and compares sampled query
// tiles with a float64 masked reference.
#pragma once

#include "calib_profiles/Profile.h"
#include "runtime/inspect/SiteListing.h"
#include "runtime/tools/verify/AttentionReference.h"

#include <functional>
#include <string>
#include <vector>

namespace calibatt {

struct CheckOptions {
  std::string device = "host";
  uint64_t seed = 0;
  /// Kernels to run at most; 0: all. The dense kernel comes on top.
  uint64_t maxKernels = 0;
  /// Called before each kernel with the number done and the number to do.
  std::function<void(uint64_t, uint64_t)> progress;
};

/// One kernel and what came of it.
struct KernelCheck {
  uint32_t kernel = 0;
  Form form = Form::Runs;
  bool denseFallback = false; ///< run by a call outside the package's steps
  uint32_t layer = 0, step = 0, headBegin = 0, headCount = 0;
  TensorShape shape;      ///< of the tensors of the call
  bool tilesOnly = false; ///< only the compared tiles were computed (large shapes on the host)
  uint64_t tiles = 0;     ///< compared
  uint64_t unwritten = 0; ///< elements of the whole output still NaN
  ErrorStats error;
  bool passed = false;
};

struct CheckReport {
  std::string device; ///< DeviceSession::description()
  bool onHost = true;
  double rmsLimit = 0, lseLimit = 0;
  uint64_t reruns = 0;          ///< tiles that a frozen maximum made a GPU compute twice
  uint64_t distinctKernels = 0; ///< different code or schedule, without the dense one
  std::vector<KernelCheck> kernels;

  bool passed() const;
};

/// The reference takes its masks from `profile` where it is given, else from the
/// package's schedules. Fails where the device or a call does; a wrong result is
/// in the report.
Result<CheckReport> checkKernels(const PackageReader &package, const ProfileReader *profile,
                                 const CheckOptions &options);

} // namespace calibatt

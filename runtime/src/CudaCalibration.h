// The calibration kernels of a package on a GPU: what they need loaded, where they work in the
// caller's memory, and their launches. Not synchronised: CudaDevice locks, and holds a
// RelaxedCapture around load().
#pragma once

#include "runtime/format/CalibrationParams.h"
#include "runtime/src/CudaDriver.h"
#include "runtime/src/CudaImages.h"
#include "runtime/src/Device.h"

#include <array>

namespace calibatt {

class CudaCalibration {
public:
  /// `processors` SMs: a CTA of the energy kernel fills one.
  CudaCalibration(const CudaDriver &driver, const PackageReader &package, uint32_t processors);
  ~CudaCalibration(); ///< the context has to be current

  uint64_t workspaceBytes(const calibatt_call_t &call, const calibatt_energy_t &energy) const;
  /// Whether what the call launches is there.
  bool isLoaded(const CudaImages &images, const calibatt_energy_t &energy) const;
  /// MISMATCH where the package has no calibration kernels.
  Outcome load(CudaImages &images, const calibatt_energy_t &energy);
  /// `attention` has the tensor maps of the call.
  Outcome launch(const CudaImages &images, const calibatt_call_t &call,
                 const LaunchParams &attention, const calibatt_energy_t &energy) const;

private:
  /// Offsets in the workspace.
  struct Layout {
    uint64_t sums = 0, energies = 0, norms = 0, lse = 0, bytes = 0;
    uint64_t pair = 0, self = 0; ///< where the sums were
  };
  Layout layout(const calibatt_call_t &call, const calibatt_energy_t &energy) const;
  Outcome launchCover(const CudaImages &images, const calibatt_call_t &call, const float *energies,
                      const calibatt_energy_t &energy) const;
  /// Behind the energy kernel, whose log-sum-exps `lse` are.
  Outcome launchRepetition(const CudaImages &images, const calibatt_call_t &call,
                           const LaunchParams &attention, const calibatt_energy_t &energy) const;
  Outcome start(const CudaImages &images, CalibrationKernel kernel, uint64_t ctas, CuStream stream,
                void *params) const;

  const CudaDriver &driver;
  const PackageReader &package;
  const uint32_t processors;
  std::array<uint32_t, kCalibrationKernels> codes; ///< kNone where the package has none
  CudaUploads uploads;
  CuDevicePtr slots = 0; ///< a word an SM; calls in flight at a time may share them
};

} // namespace calibatt

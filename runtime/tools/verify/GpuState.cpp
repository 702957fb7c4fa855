#include "runtime/tools/verify/GpuState.h"

#include <dlfcn.h>

namespace calibatt {

namespace {

constexpr int kClockSm = 1; // NVML_CLOCK_SM
// nvmlClocksEventReason: power cap, hardware slowdown, thermal (software, hardware), power brake.
constexpr unsigned long long kThrottled = 0x4 | 0x8 | 0x20 | 0x40 | 0x80;

} // namespace

std::unique_ptr<GpuState> GpuState::open(const std::string &pciAddress) {
  std::unique_ptr<GpuState> state(new GpuState);
  state->library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!state->library)
    return nullptr;
  auto bind = [&](auto &function, const char *name) {
    function =
        reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(state->library, name));
    return function != nullptr;
  };
  int (*initialise)() = nullptr;
  int (*byAddress)(const char *, Handle *) = nullptr;
  if (!bind(initialise, "nvmlInit_v2") || !bind(state->shutdown, "nvmlShutdown") ||
      !bind(byAddress, "nvmlDeviceGetHandleByPciBusId_v2") ||
      !bind(state->clockInfo, "nvmlDeviceGetClockInfo") ||
      !bind(state->powerUsage, "nvmlDeviceGetPowerUsage") ||
      !bind(state->throttleReasons, "nvmlDeviceGetCurrentClocksThrottleReasons"))
    return nullptr;
  if (initialise() != 0)
    return nullptr;
  state->initialised = true;
  if (byAddress(pciAddress.c_str(), &state->handle) != 0)
    return nullptr;
  return state;
}

GpuState::~GpuState() {
  if (initialised)
    shutdown();
  if (library)
    dlclose(library);
}

std::optional<GpuSample> GpuState::sample() const {
  unsigned megahertz = 0, milliwatts = 0;
  unsigned long long reasons = 0;
  if (clockInfo(handle, kClockSm, &megahertz) != 0 || powerUsage(handle, &milliwatts) != 0 ||
      throttleReasons(handle, &reasons) != 0)
    return std::nullopt;
  return GpuSample{megahertz, milliwatts * 1e-3, (reasons & kThrottled) != 0};
}

} // namespace calibatt

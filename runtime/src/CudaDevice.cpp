// The CUDA device: checks driver and GPU, keeps images resident, launches on the caller's stream.

#include "runtime/src/CudaCalibration.h"
#include "runtime/src/CudaCounter.h"
#include "runtime/src/CudaDriver.h"
#include "runtime/src/CudaImages.h"
#include "runtime/src/CudaTensorMaps.h"
#include "runtime/src/Device.h"
#include "runtime/src/RelaxedCapture.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <mutex>
#include <optional>
#include <shared_mutex>

namespace calibatt {
namespace {

constexpr unsigned kThreadsPerBlock = 384;

DeviceTensor deviceTensor(const calibatt_call_t &call, const void *address,
                          const int64_t (&strides)[3], uint32_t boxRows) {
  return {address,     call.batch,    call.heads,
          call.tokens, call.head_dim, {strides[0], strides[1], strides[2]},
          boxRows};
}

class CudaDevice final : public Device {
public:
  CudaDevice(SharedPackage package, const CudaDriver &driver, CuDevice device, uint64_t budget,
             uint32_t threads)
      : package(std::move(package)), driver(driver), device(device), budget(budget),
        threads(threads), tensorMaps(driver) {}

  ~CudaDevice() override {
    // Somebody's stream may be captured now; what the driver refuses nobody can be told.
    const RelaxedCapture relaxed(driver);
    if (context) {
      const ContextScope scope(driver, context);
      calibration.reset();
      images.reset();
      reruns.reset();
    }
    if (retained)
      driver.primaryContextRelease(device);
  }

  /// The current context where it is this device's, else the primary one.
  Outcome enter() {
    const RelaxedCapture relaxed(driver);
    if (!relaxed.outcome().ok())
      return relaxed.outcome();
    CuContext current = nullptr;
    CuDevice currentDevice = -1;
    if (driver.contextGetCurrent(&current) == 0 && current &&
        driver.contextGetDevice(&currentDevice) == 0 && currentDevice == device) {
      context = current;
    } else {
      if (Outcome got = driver.check(driver.primaryContextRetain(&context, device),
                                     "cuDevicePrimaryCtxRetain");
          !got.ok())
        return got;
      retained = true;
    }
    int processors = 0;
    if (Outcome asked =
            driver.check(driver.deviceGetAttribute(&processors, kCuMultiprocessorCount, device),
                         "cuDeviceGetAttribute");
        !asked.ok())
      return asked;
    const uint32_t ctas = uint32_t(std::max(processors, 1));
    images.emplace(driver, package->reader, device, budget, ctas, threads);
    calibration.emplace(driver, package->reader, ctas);
    reruns.emplace(driver);
    return {};
  }

  Outcome accepts(const calibatt_call_t &call) const override {
    Outcome outcome;
    if (call.dtype != CALIBATT_DTYPE_BF16)
      outcome = {CALIBATT_STATUS_MISMATCH, "the call has dtype f32; on a GPU tensors are bf16"};
    const Outcome tensors[] = {
        checkDeviceTensor(deviceTensor(call, call.q, call.q_strides, 128), "q"),
        checkDeviceTensor(deviceTensor(call, call.k, call.k_strides, 128), "k"),
        checkDeviceTensor(deviceTensor(call, call.v, call.v_strides, 128), "v"),
        checkDeviceTensor(deviceTensor(call, call.o, call.o_strides, 64), "o")};
    for (const Outcome &tensor : tensors)
      if (outcome.ok())
        outcome = tensor;
    return outcome;
  }

  Outcome ready(const CheckedCall &checked, std::span<const KernelLaunch> launches) const override {
    const ContextScope scope(driver, context);
    if (!scope.outcome().ok())
      return scope.outcome();
    bool capturing = false;
    if (Outcome asked = isCapturing(checked.call, capturing); !asked.ok() || !capturing)
      return asked;
    const std::shared_lock lock(mutex);
    return allResident(launches, checked.call.batch) ? Outcome() : notPrewarmed(checked.call);
  }

  Outcome prewarm(std::span<const KernelLaunch> launches, uint32_t batch) override {
    const ContextScope scope(driver, context);
    if (!scope.outcome().ok())
      return scope.outcome();
    const std::unique_lock lock(mutex);
    return load(launches, batch);
  }

  Outcome run(const CheckedCall &checked, std::span<const KernelLaunch> launches) override {
    const calibatt_call_t &call = checked.call;
    const ContextScope scope(driver, context);
    if (!scope.outcome().ok())
      return scope.outcome();
    LaunchParams params = {};
    if (Outcome mapped = encode(call, params); !mapped.ok())
      return mapped;
    bool capturing = false;
    if (Outcome asked = isCapturing(call, capturing); !asked.ok())
      return asked;

    // Held until the launches are enqueued, so that no other thread releases what they read.
    std::shared_lock shared(mutex);
    std::unique_lock unique(mutex, std::defer_lock);
    const bool resident = allResident(launches, call.batch);
    if (capturing && !resident)
      return notPrewarmed(call);
    if (capturing || !resident) {
      shared.unlock();
      unique.lock();
      if (!capturing) {
        if (Outcome loaded = load(launches, call.batch); !loaded.ok())
          return loaded;
      } else if (!allResident(launches, call.batch)) {
        return {CALIBATT_STATUS_NOT_PREWARMED,
                "another thread released this step while the stream was being captured"};
      } else {
        for (const KernelLaunch &launch : launches)
          images->pin(launch, call.batch);
      }
    }
    for (const KernelLaunch &launch : launches)
      if (Outcome launched = start(launch, call.batch, params, static_cast<CuStream>(call.stream));
          !launched.ok())
        return launched;
    return {};
  }

  uint64_t energyWorkspace(const CheckedCall &checked,
                           const calibatt_energy_t &energy) const override {
    return calibration->workspaceBytes(checked.call, energy);
  }

  Outcome energy(const CheckedCall &checked, const calibatt_energy_t &energy) override {
    const calibatt_call_t &call = checked.call;
    const ContextScope scope(driver, context);
    if (!scope.outcome().ok())
      return scope.outcome();
    LaunchParams params = {};
    if (Outcome mapped = encode(call, params); !mapped.ok())
      return mapped;
    bool capturing = false;
    if (Outcome asked = isCapturing(call, capturing); !asked.ok())
      return asked;
    // Code stays once it is loaded, so a captured graph needs nothing pinned.
    const std::unique_lock lock(mutex);
    if (!calibration->isLoaded(*images, energy)) {
      if (capturing)
        return {
            CALIBATT_STATUS_NOT_PREWARMED,
            "the stream is being captured and the calibration kernels are not loaded: make such "
            "a call before capturing"};
      const RelaxedCapture relaxed(driver);
      if (!relaxed.outcome().ok())
        return relaxed.outcome();
      if (Outcome loaded = calibration->load(*images, energy); !loaded.ok())
        return loaded;
    }
    return calibration->launch(*images, call, params, energy);
  }

  DeviceStats stats() const override {
    const std::shared_lock lock(mutex);
    DeviceStats stats = images->stats();
    stats.tensorMaps = tensorMaps.size();
    stats.reruns = reruns->value();
    return stats;
  }

private:
  /// Another thread, or the host program on another stream, may be capturing meanwhile.
  Outcome load(std::span<const KernelLaunch> launches, uint32_t batch) {
    const RelaxedCapture relaxed(driver);
    if (!relaxed.outcome().ok())
      return relaxed.outcome();
    if (Outcome counted = reruns->make(); !counted.ok())
      return counted;
    return images->load(launches, batch);
  }

  Outcome isCapturing(const calibatt_call_t &call, bool &capturing) const {
    int status = kCuCaptureStatusNone;
    Outcome asked =
        driver.check(driver.streamIsCapturing(static_cast<CuStream>(call.stream), &status),
                     "cuStreamIsCapturing");
    capturing = status != kCuCaptureStatusNone;
    return asked;
  }

  static Outcome notPrewarmed(const calibatt_call_t &call) {
    return {CALIBATT_STATUS_NOT_PREWARMED,
            fmt::format("the stream is being captured and this step is not prewarmed for batch {}: "
                        "call calibatt_session_prewarm before capturing",
                        call.batch)};
  }

  bool allResident(std::span<const KernelLaunch> launches, uint32_t batch) const {
    ResidentKernel resident;
    for (const KernelLaunch &launch : launches)
      if (!images->find(launch, batch, resident))
        return false;
    return true;
  }

  Outcome encode(const calibatt_call_t &call, LaunchParams &params) {
    const auto get = [&](const void *address, const int64_t (&strides)[3], uint32_t rows,
                         const char *name, auto &map) {
      return tensorMaps.get(deviceTensor(call, address, strides, rows), name, map);
    };
    Outcome outcome = get(call.q, call.q_strides, 128, "q", params.q);
    if (outcome.ok())
      outcome = get(call.k, call.k_strides, 128, "k", params.k);
    if (outcome.ok())
      outcome = get(call.v, call.v_strides, 128, "v", params.v);
    if (outcome.ok())
      outcome = get(call.o, call.o_strides, 64, "o", params.o);
    if (!outcome.ok())
      return outcome;
    params.q_data = static_cast<const unsigned char *>(call.q);
    params.o_data = static_cast<unsigned char *>(call.o);
    for (int i = 0; i < 3; ++i) {
      params.q_strides[i] = 2 * call.q_strides[i];
      params.o_strides[i] = 2 * call.o_strides[i];
    }
    params.lse = call.lse;
    params.lse_batch_stride = call.lse_strides[0];
    params.lse_head_stride = call.lse_strides[1];
    return {};
  }

  Outcome start(const KernelLaunch &launch, uint32_t batch, LaunchParams &params, CuStream stream) {
    ResidentKernel resident;
    if (!images->find(launch, batch, resident))
      return {CALIBATT_STATUS_INTERNAL, "a loaded kernel is not resident"};
    params.schedule = std::bit_cast<const unsigned char *>(resident.schedule);
    params.work = std::bit_cast<const unsigned *>(resident.work);
    params.work_count = resident.workCount;
    params.work_begin = std::bit_cast<const unsigned *>(resident.workBegin);
    params.head_base = launch.headBase;
    params.reruns = reruns->address();
    void *arguments[] = {&params};
    // The driver takes a CUkernel where a CUfunction is asked for.
    return driver.check(driver.launchKernel(reinterpret_cast<CuFunction>(resident.kernel),
                                            resident.ctas, 1, 1, kThreadsPerBlock, 1, 1,
                                            resident.dynamicSmem, stream, arguments, nullptr),
                        "cuLaunchKernel");
  }

  SharedPackage package;
  const CudaDriver &driver;
  const CuDevice device;
  const uint64_t budget;
  const uint32_t threads; ///< that decode schedules
  CuContext context = nullptr;
  bool retained = false;
  mutable std::shared_mutex mutex; ///< guards images
  std::optional<CudaImages> images;
  std::optional<CudaCalibration> calibration; ///< guarded likewise
  std::optional<CudaCounter> reruns;
  CudaTensorMaps tensorMaps;
};

// "sm_90a" and compute capability 9.0: code of an `a` target runs on exactly that one.
bool runsOn(const std::string &arch, int major, int minor) {
  const std::string exact = fmt::format("sm_{}{}", major, minor);
  return arch == exact || arch == exact + "a";
}

} // namespace

Outcome makeCudaDevice(SharedPackage package, int ordinal, uint64_t byteBudget, uint32_t threads,
                       std::unique_ptr<Device> &device) {
  const CudaDriver *driver = nullptr;
  if (Outcome opened = CudaDriver::get(driver); !opened.ok())
    return opened;
  const Manifest &manifest = package->reader.manifest();
  int version = 0, count = 0, major = 0, minor = 0;
  CuDevice handle = 0;
  if (Outcome asked = driver->check(driver->driverGetVersion(&version), "cuDriverGetVersion");
      !asked.ok())
    return asked;
  if (uint32_t(version) < manifest.minDriver)
    return {CALIBATT_STATUS_UNSUPPORTED_DEVICE,
            fmt::format("{}: needs a driver for CUDA {}.{}, this one is for CUDA {}.{}",
                        package->reader.path(), manifest.minDriver / 1000,
                        manifest.minDriver % 1000 / 10, version / 1000, version % 1000 / 10)};
  if (Outcome asked = driver->check(driver->deviceGetCount(&count), "cuDeviceGetCount");
      !asked.ok() || ordinal >= count)
    return {CALIBATT_STATUS_NO_DEVICE,
            asked.ok() ? fmt::format("device 'cuda:{}': there are {} GPUs", ordinal, count)
                       : asked.message};
  if (Outcome asked = driver->check(driver->deviceGet(&handle, ordinal), "cuDeviceGet");
      !asked.ok())
    return asked;
  for (const auto &[value, attribute] :
       {std::pair(&major, kCuComputeCapabilityMajor), std::pair(&minor, kCuComputeCapabilityMinor)})
    if (Outcome asked = driver->check(driver->deviceGetAttribute(value, attribute, handle),
                                      "cuDeviceGetAttribute");
        !asked.ok())
      return asked;
  for (uint32_t code = 0; code < package->reader.codeCount(); ++code)
    if (const std::string &arch = package->reader.codeInfo(code).arch; !runsOn(arch, major, minor))
      return {CALIBATT_STATUS_UNSUPPORTED_DEVICE,
              fmt::format("{}: its code is for {}, device 'cuda:{}' has compute capability {}.{}",
                          package->reader.path(), arch, ordinal, major, minor)};
  auto made =
      std::make_unique<CudaDevice>(std::move(package), *driver, handle, byteBudget, threads);
  if (Outcome entered = made->enter(); !entered.ok())
    return entered;
  device = std::move(made);
  return {};
}

} // namespace calibatt

#include "test/runtime/FakeCuda.h"

#include <cstdlib>
#include <cstring>
#include <mutex>
#include <utility>

using namespace calibatt;
using namespace calibatt::test;

namespace {

FakeCuda fake;
std::mutex mutex; // guards it: the runtime may call from several threads
thread_local int contextsPushed = 0;
thread_local int captureMode = 0; // cudaStreamCaptureModeGlobal
constexpr int kRelaxed = 2;

// Counts the call; the error to return where the test wants this function to fail.
int enter(const char *function) {
  const int call = ++fake.calls[function];
  const bool fails = fake.failing == function && (!fake.failingCall || fake.failingCall == call);
  return fails ? fake.failure : 0;
}

// For the rest of the function.
#define CALIBATT_ENTER                                                                             \
  const std::lock_guard lock(mutex);                                                               \
  if (const int failure = enter(__func__))                                                         \
  return failure

// The same in functions that need a current context: CUDA_ERROR_INVALID_CONTEXT without one.
#define CALIBATT_ENTER_IN_CONTEXT                                                                  \
  CALIBATT_ENTER;                                                                                  \
  if (!contextsPushed)                                                                             \
  return 201

// The same in functions that are unsafe under capture, which end it where this thread's mode does
// not let them, as driver R580 does.
#define CALIBATT_ENTER_UNSAFE                                                                      \
  CALIBATT_ENTER;                                                                                  \
  if (fake.capturing && captureMode != kRelaxed) {                                                 \
    fake.captureLostBy = __func__;                                                                 \
    return 900;                                                                                    \
  }

void *const kPrimary = reinterpret_cast<void *>(0x10);
// Copies read their source when they are waited for, as late as a driver may.
struct Copy {
  uint64_t to;
  const void *from;
  size_t bytes;
  void *stream;
};
std::vector<Copy> copies;
void arrive(const void *stream) {
  std::erase_if(copies, [&](const Copy &copy) {
    if (copy.stream != stream)
      return false;
    std::memcpy(reinterpret_cast<void *>(copy.to), copy.from, copy.bytes);
    return true;
  });
}

std::vector<std::string> kernelNames; // a kernel handle is its index + 1

} // namespace

extern "C" {

FakeCuda *fakeCudaState() { return &fake; }

int cuInit(unsigned) {
  CALIBATT_ENTER;
  return 0;
}
int cuDriverGetVersion(int *version) {
  CALIBATT_ENTER;
  *version = fake.version;
  return 0;
}
int cuGetErrorName(int, const char **name) {
  if (fake.namelessErrors)
    return 1;
  *name = "CUDA_ERROR_OF_THE_TEST";
  return 0;
}
int cuGetErrorString(int, const char **text) {
  if (fake.namelessErrors)
    return 1;
  *text = "the test asked for it";
  return 0;
}
int cuDeviceGetCount(int *count) {
  CALIBATT_ENTER;
  *count = fake.devices;
  return 0;
}
int cuDeviceGet(int *device, int ordinal) {
  CALIBATT_ENTER;
  *device = ordinal;
  return 0;
}
int cuDeviceGetAttribute(int *value, int attribute, int) {
  CALIBATT_ENTER;
  *value = attribute == 75 ? fake.major : attribute == 76 ? fake.minor : fake.processors;
  return 0;
}
int cuDevicePrimaryCtxRetain(void **context, int) {
  CALIBATT_ENTER_UNSAFE;
  ++fake.retained;
  *context = kPrimary;
  return 0;
}
int cuDevicePrimaryCtxRelease_v2(int) {
  CALIBATT_ENTER_UNSAFE;
  if (--fake.retained == 0 && fake.contextDepth == 0) {
    fake.lostAllocations += int(fake.allocations.size());
    for (const auto &[address, bytes] : fake.allocations)
      std::free(reinterpret_cast<void *>(address));
    fake.allocations.clear();
    copies.clear();
  }
  return 0;
}
int cuCtxGetCurrent(void **context) {
  CALIBATT_ENTER;
  *context = contextsPushed ? kPrimary : nullptr;
  return 0;
}
int cuCtxGetDevice(int *device) {
  CALIBATT_ENTER_IN_CONTEXT;
  *device = 0;
  return 0;
}
int cuCtxPushCurrent_v2(void *) {
  CALIBATT_ENTER;
  ++contextsPushed;
  ++fake.contextDepth;
  return 0;
}
int cuCtxPopCurrent_v2(void **) {
  CALIBATT_ENTER_IN_CONTEXT;
  --contextsPushed;
  --fake.contextDepth;
  return 0;
}
int cuLibraryLoadData(void **library, const void *code, int *, void **, unsigned, int *, void **,
                      unsigned) {
  CALIBATT_ENTER_UNSAFE;
  const auto *bytes = static_cast<const unsigned char *>(code);
  fake.libraries.emplace_back(bytes, bytes + 5);
  ++fake.loadedLibraries;
  *library = reinterpret_cast<void *>(fake.libraries.size());
  return 0;
}
int cuLibraryUnload(void *) {
  CALIBATT_ENTER_UNSAFE;
  --fake.loadedLibraries;
  return 0;
}
int cuLibraryGetKernel(void **kernel, void *, const char *name) {
  CALIBATT_ENTER;
  kernelNames.push_back(name);
  *kernel = reinterpret_cast<void *>(kernelNames.size());
  return 0;
}
int cuKernelGetFunction(void **function, void *kernel) {
  CALIBATT_ENTER_IN_CONTEXT;
  *function = kernel;
  return 0;
}
int cuKernelSetAttribute(int attribute, int value, void *, int) {
  CALIBATT_ENTER;
  if (attribute == 8)
    fake.dynamicShared = value;
  return 0;
}
int cuLaunchKernel(void *function, unsigned gridX, unsigned gridY, unsigned gridZ, unsigned blockX,
                   unsigned blockY, unsigned blockZ, unsigned sharedBytes, void *stream,
                   void **params, void **) {
  CALIBATT_ENTER_IN_CONTEXT;
  FakeLaunch launch;
  launch.kernel = kernelNames[reinterpret_cast<size_t>(function) - 1];
  launch.grid = {gridX, gridY, gridZ};
  launch.block = {blockX, blockY, blockZ};
  launch.sharedBytes = sharedBytes;
  launch.stream = stream;
  const auto isCalibration = [&](const char *name) {
    return launch.kernel.starts_with(std::string(CALIBATT_CALIBRATION_SYMBOL) + name);
  };
  if (isCalibration("cover"))
    std::memcpy(&launch.cover, params[0], sizeof launch.cover);
  else if (isCalibration("repetition"))
    std::memcpy(&launch.repetition, params[0], sizeof launch.repetition);
  else if (isCalibration("pair_lse") || isCalibration("self_lse"))
    std::memcpy(&launch.lse, params[0], sizeof launch.lse);
  else if (isCalibration("norms"))
    std::memcpy(&launch.norms, params[0], sizeof launch.norms);
  else if (isCalibration("energy") || isCalibration("weighted_energy"))
    std::memcpy(&launch.energy, params[0], sizeof launch.energy);
  else
    std::memcpy(&launch.params, params[0], sizeof launch.params);
  if (isCalibration("energy") || isCalibration("weighted_energy"))
    launch.params = launch.energy.attention;
  if (isCalibration("pair_lse") || isCalibration("self_lse"))
    launch.params = launch.lse.attention;
  launch.work.assign(launch.params.work, launch.params.work + launch.params.work_count);
  if (const unsigned *begins = launch.params.work_begin)
    launch.begins.assign(begins, begins + gridX + 1);
  if (launch.params.schedule) {
    const uint64_t bytes = fake.allocations.at(reinterpret_cast<uint64_t>(launch.params.schedule));
    launch.image.assign(launch.params.schedule, launch.params.schedule + bytes);
  }
  if (launch.params.reruns)
    *launch.params.reruns += unsigned(fake.rerunsPerLaunch);
  fake.launches.push_back(std::move(launch));
  return 0;
}
int cuTensorMapEncodeTiled(void *map, int dataType, uint32_t rank, void *address,
                           const uint64_t *dims, const uint64_t *strides, const uint32_t *box,
                           const uint32_t *elementStrides, int interleave, int swizzle,
                           int l2Promotion, int fill) {
  CALIBATT_ENTER;
  FakeTensorMap entry{dataType, interleave, swizzle, l2Promotion, fill, address, {}, {}, {}, {}};
  if (rank != 5 || reinterpret_cast<uintptr_t>(map) % 64)
    return 1;
  std::memcpy(entry.dims.data(), dims, sizeof entry.dims);
  std::memcpy(entry.strides.data(), strides, sizeof entry.strides);
  std::memcpy(entry.box.data(), box, sizeof entry.box);
  std::memcpy(entry.elementStrides.data(), elementStrides, sizeof entry.elementStrides);
  const uint64_t number = fake.maps.size();
  std::memset(map, 0, 128);
  std::memcpy(map, &number, 8);
  fake.maps.push_back(entry);
  return 0;
}
int cuStreamIsCapturing(void *stream, int *status) {
  CALIBATT_ENTER_IN_CONTEXT;
  // The default stream may not be asked while another one is captured.
  if (!stream && fake.capturing)
    return 906;
  *status = fake.capturing;
  return 0;
}
int cuStreamCreate(void **stream, unsigned flags) {
  CALIBATT_ENTER_IN_CONTEXT;
  if (flags != 1) // CU_STREAM_NON_BLOCKING
    return 1;
  *stream = reinterpret_cast<void *>(0x6000);
  ++fake.streams;
  return 0;
}
int cuStreamDestroy_v2(void *stream) {
  CALIBATT_ENTER_IN_CONTEXT;
  std::erase_if(copies, [&](const Copy &copy) { return copy.stream == stream; });
  --fake.streams;
  return 0;
}
int cuStreamSynchronize(void *stream) {
  CALIBATT_ENTER_UNSAFE;
  if (!contextsPushed)
    return 201;
  if (!stream && fake.capturing) { // whatever the mode
    fake.captureLostBy = "cuStreamSynchronize of the legacy stream";
    return 906;
  }
  arrive(stream);
  return 0;
}
int cuThreadExchangeStreamCaptureMode(int *mode) {
  CALIBATT_ENTER;
  std::swap(*mode, captureMode);
  return 0;
}
int cuMemAlloc_v2(uint64_t *address, size_t bytes) {
  CALIBATT_ENTER_UNSAFE;
  if (!contextsPushed)
    return 201;
  *address = reinterpret_cast<uint64_t>(std::aligned_alloc(512, (bytes + 511) & ~size_t(511)));
  fake.allocations[*address] = bytes;
  return 0;
}
int cuMemHostAlloc(void **address, size_t bytes, unsigned flags) {
  CALIBATT_ENTER_UNSAFE;
  if (!contextsPushed)
    return 201;
  if (flags != 3) // portable, mapped
    return 1;
  *address = std::malloc(bytes);
  std::memset(*address, 0xA5, bytes);
  ++fake.hostAllocations;
  return 0;
}
int cuMemFreeHost(void *address) {
  CALIBATT_ENTER_UNSAFE;
  if (!contextsPushed)
    return 201;
  std::free(address);
  --fake.hostAllocations;
  return 0;
}
int cuMemFree_v2(uint64_t address) {
  CALIBATT_ENTER_UNSAFE;
  if (!contextsPushed)
    return 201;
  if (!fake.allocations.erase(address))
    return 1;
  // It waits; what had not arrived is never read by a launch.
  std::erase_if(copies, [&](const Copy &copy) { return copy.to == address; });
  std::free(reinterpret_cast<void *>(address));
  return 0;
}
int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, void *stream) {
  CALIBATT_ENTER_UNSAFE;
  if (!contextsPushed)
    return 201;
  if (!stream)
    return 1;
  if (fake.allocations.at(to) < bytes)
    return 1;
  copies.push_back({to, from, bytes, stream});
  return 0;
}
int cuMemcpyHtoD_v2(uint64_t to, const void *from, size_t bytes) {
  CALIBATT_ENTER_IN_CONTEXT;
  if (fake.capturing) {
    fake.captureLostBy = __func__;
    return 906;
  }
  if (fake.allocations.at(to) < bytes)
    return 1;
  std::memcpy(reinterpret_cast<void *>(to), from, bytes);
  return 0;
}
int cuMemcpyDtoH_v2(void *to, uint64_t from, size_t bytes) {
  CALIBATT_ENTER_IN_CONTEXT;
  if (fake.allocations.at(from) < bytes)
    return 1;
  std::memcpy(to, reinterpret_cast<const void *>(from), bytes);
  return 0;
}
// The mode of the calling thread, which has to be the one it began with between calls.
int fakeCudaCaptureMode(void *forget) {
  const int mode = captureMode;
  if (forget)
    captureMode = 0;
  return mode;
}
// The host program's own: it makes the context current for as long as it lives.
int cuCtxSetCurrent(void *) {
  CALIBATT_ENTER;
  ++contextsPushed;
  ++fake.contextDepth;
  return 0;
}
int cuCtxSynchronize() {
  CALIBATT_ENTER_IN_CONTEXT;
  return 0;
}
} // extern "C"

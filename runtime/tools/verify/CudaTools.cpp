// Memory and events of one GPU, through the driver library the runtime opened.
#include "runtime/tools/verify/CudaTools.h"

#include <cstdlib>
#include <dlfcn.h>
#include <fmt/format.h>

namespace calibatt {

namespace {

/// m64n128k16, 2 x 131,072 FLOP, takes a Hopper SM's tensor cores 64 clocks.
constexpr double kHopperFlopsPerClock = 4096;

} // namespace

Status CudaTools::check(CuResult result, const char *function) const {
  Outcome outcome = driver->check(result, function);
  if (!outcome.ok())
    return Error{outcome.message};
  return {};
}

Status CudaTools::resolve() {
  // The library is open already; this only adds a reference.
  const char *chosen = std::getenv("CALIBATT_LIBCUDA");
  const char *path = chosen && *chosen ? chosen : "libcuda.so.1";
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!library)
    return Error{fmt::format("{} not found", path)};
  auto bind = [&](auto &function, const char *newest, const char *older) {
    void *address = dlsym(library, newest);
    if (!address)
      address = dlsym(library, older);
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(address);
    return address != nullptr;
  };
  bool complete = bind(getName, "cuDeviceGetName", "cuDeviceGetName") &&
                  bind(getPciBusId, "cuDeviceGetPCIBusId", "cuDeviceGetPCIBusId") &&
                  bind(memcpyDtoH, "cuMemcpyDtoH_v2", "cuMemcpyDtoH") &&
                  bind(memcpyHtoD, "cuMemcpyHtoD_v2", "cuMemcpyHtoD") &&
                  bind(eventCreate, "cuEventCreate", "cuEventCreate") &&
                  bind(eventRecord, "cuEventRecord", "cuEventRecord") &&
                  bind(eventSynchronize, "cuEventSynchronize", "cuEventSynchronize") &&
                  bind(eventElapsed, "cuEventElapsedTime_v2", "cuEventElapsedTime") &&
                  bind(eventDestroy, "cuEventDestroy_v2", "cuEventDestroy");
  dlclose(library);
  if (!complete)
    return Error{fmt::format("{} lacks event or copy functions: the CUDA driver is too old", path)};
  return {};
}

Result<std::unique_ptr<CudaTools>> CudaTools::open(int ordinal) {
  std::unique_ptr<CudaTools> tools(new CudaTools);
  if (Outcome got = CudaDriver::get(tools->driver); !got.ok())
    return Error{fmt::format("device cuda:{}: {}", ordinal, got.message)};
  if (Status s = tools->resolve(); !s)
    return s.takeError();
  int count = 0;
  if (Status s = tools->check(tools->driver->deviceGetCount(&count), "cuDeviceGetCount"); !s)
    return s.takeError();
  if (ordinal >= count)
    return Error{fmt::format("device cuda:{}: the machine has {} GPUs", ordinal, count)};
  if (Status s = tools->check(tools->driver->deviceGet(&tools->device, ordinal), "cuDeviceGet"); !s)
    return s.takeError();
  char text[128] = "";
  if (Status s = tools->check(tools->getName(text, sizeof text, tools->device), "cuDeviceGetName");
      !s)
    return s.takeError();
  tools->deviceName = text;
  if (tools->getPciBusId(text, sizeof text, tools->device) == 0)
    tools->pci = text;
  int major = 0, processors = 0;
  for (auto [value, attribute] : {std::pair{&major, kCuComputeCapabilityMajor},
                                  std::pair{&processors, kCuMultiprocessorCount}})
    if (Status s = tools->check(tools->driver->deviceGetAttribute(value, attribute, tools->device),
                                "cuDeviceGetAttribute");
        !s)
      return s.takeError();
  if (major == 9)
    tools->denseFlopsPerClock = kHopperFlopsPerClock * processors;
  if (Status s = tools->check(tools->driver->primaryContextRetain(&tools->context, tools->device),
                              "cuDevicePrimaryCtxRetain");
      !s)
    return s.takeError();
  tools->retained = true;
  if (Status s = tools->check(tools->driver->contextPush(tools->context), "cuCtxPushCurrent"); !s)
    return s.takeError();
  tools->pushed = true;
  return tools;
}

CudaTools::~CudaTools() {
  release();
  if (begin)
    eventDestroy(begin);
  if (end)
    eventDestroy(end);
  CuContext popped = nullptr;
  if (pushed)
    driver->contextPop(&popped);
  if (retained)
    driver->primaryContextRelease(device);
}

Result<CuDevicePtr> CudaTools::allocate(size_t bytes) {
  CuDevicePtr address = 0;
  if (Status s = check(driver->memAlloc(&address, bytes), "cuMemAlloc"); !s)
    return Error{fmt::format("{} bytes of device memory: {}", bytes, s.message())};
  allocations.push_back(address);
  return address;
}

Result<CuDevicePtr> CudaTools::upload(const void *from, size_t bytes) {
  auto address = allocate(bytes);
  if (!address)
    return address;
  if (Status s = check(memcpyHtoD(*address, from, bytes), "cuMemcpyHtoD"); !s)
    return s.takeError();
  return address;
}

Status CudaTools::download(void *to, CuDevicePtr from, size_t bytes) {
  if (Status s = check(driver->streamSynchronize(nullptr), "cuStreamSynchronize"); !s)
    return s;
  return check(memcpyDtoH(to, from, bytes), "cuMemcpyDtoH");
}

void CudaTools::release() {
  for (CuDevicePtr address : allocations)
    driver->memFree(address);
  allocations.clear();
}

Status CudaTools::startTimer() {
  for (Event *event : {&begin, &end})
    if (!*event)
      if (Status s = check(eventCreate(event, 0), "cuEventCreate"); !s)
        return s;
  return check(eventRecord(begin, nullptr), "cuEventRecord");
}

Result<double> CudaTools::stopTimer() {
  if (Status s = check(eventRecord(end, nullptr), "cuEventRecord"); !s)
    return s.takeError();
  if (Status s = check(eventSynchronize(end), "cuEventSynchronize"); !s)
    return s.takeError();
  float milliseconds = 0;
  if (Status s = check(eventElapsed(&milliseconds, begin, end), "cuEventElapsedTime"); !s)
    return s.takeError();
  return double(milliseconds) * 1e-3;
}

} // namespace calibatt

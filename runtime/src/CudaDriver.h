// libcuda.so.1, opened at run time: our own prototypes of the functions used, one table.
// Types and values are those of CUDA 13.0's cuda.h.
#pragma once

#include "runtime/src/Outcome.h"

#include <cstddef>
#include <cstdint>

namespace calibatt {

using CuResult = int;
using CuDevice = int;
using CuDevicePtr = unsigned long long;
using CuContext = struct CuContextOpaque *;
using CuStream = struct CuStreamOpaque *;
using CuLibrary = struct CuLibraryOpaque *;
using CuKernel = struct CuKernelOpaque *;
using CuFunction = struct CuFunctionOpaque *;

constexpr CuResult kCudaOutOfMemory = 2;
constexpr int kCuComputeCapabilityMajor = 75;
constexpr int kCuComputeCapabilityMinor = 76;
constexpr int kCuMultiprocessorCount = 16;
constexpr int kCuFuncMaxDynamicSharedBytes = 8;
constexpr int kCuCaptureStatusNone = 0;
constexpr int kCuCaptureModeRelaxed = 2;
constexpr unsigned kCuStreamNonBlocking = 1;
constexpr unsigned kCuHostPortable = 1, kCuHostMapped = 2;

// X(member, exported symbol, parameter types)
#define CALIBATT_CUDA_FUNCTIONS(X)                                                                 \
  X(init, cuInit, (unsigned flags))                                                                \
  X(driverGetVersion, cuDriverGetVersion, (int *version))                                          \
  X(getErrorName, cuGetErrorName, (CuResult error, const char **name))                             \
  X(getErrorString, cuGetErrorString, (CuResult error, const char **text))                         \
  X(deviceGetCount, cuDeviceGetCount, (int *count))                                                \
  X(deviceGet, cuDeviceGet, (CuDevice * device, int ordinal))                                      \
  X(deviceGetAttribute, cuDeviceGetAttribute, (int *value, int attribute, CuDevice device))        \
  X(primaryContextRetain, cuDevicePrimaryCtxRetain, (CuContext * context, CuDevice device))        \
  X(primaryContextRelease, cuDevicePrimaryCtxRelease_v2, (CuDevice device))                        \
  X(contextGetCurrent, cuCtxGetCurrent, (CuContext * context))                                     \
  X(contextGetDevice, cuCtxGetDevice, (CuDevice * device))                                         \
  X(contextPush, cuCtxPushCurrent_v2, (CuContext context))                                         \
  X(contextPop, cuCtxPopCurrent_v2, (CuContext * context))                                         \
  X(libraryLoadData, cuLibraryLoadData,                                                            \
    (CuLibrary * library, const void *code, int *jitOptions, void **jitValues, unsigned jitCount,  \
     int *options, void **values, unsigned count))                                                 \
  X(libraryUnload, cuLibraryUnload, (CuLibrary library))                                           \
  X(libraryGetKernel, cuLibraryGetKernel,                                                          \
    (CuKernel * kernel, CuLibrary library, const char *name))                                      \
  X(kernelGetFunction, cuKernelGetFunction, (CuFunction * function, CuKernel kernel))              \
  X(kernelSetAttribute, cuKernelSetAttribute,                                                      \
    (int attribute, int value, CuKernel kernel, CuDevice device))                                  \
  X(launchKernel, cuLaunchKernel,                                                                  \
    (CuFunction function, unsigned gridX, unsigned gridY, unsigned gridZ, unsigned blockX,         \
     unsigned blockY, unsigned blockZ, unsigned sharedBytes, CuStream stream, void **params,       \
     void **extra))                                                                                \
  X(tensorMapEncodeTiled, cuTensorMapEncodeTiled,                                                  \
    (void *map, int dataType, uint32_t rank, void *address, const uint64_t *dims,                  \
     const uint64_t *byteStrides, const uint32_t *box, const uint32_t *elementStrides,             \
     int interleave, int swizzle, int l2Promotion, int outOfBoundsFill))                           \
  X(streamIsCapturing, cuStreamIsCapturing, (CuStream stream, int *status))                        \
  X(streamCreate, cuStreamCreate, (CuStream * stream, unsigned flags))                             \
  X(streamDestroy, cuStreamDestroy_v2, (CuStream stream))                                          \
  X(streamSynchronize, cuStreamSynchronize, (CuStream stream))                                     \
  X(exchangeCaptureMode, cuThreadExchangeStreamCaptureMode, (int *mode))                           \
  X(memAlloc, cuMemAlloc_v2, (CuDevicePtr * address, size_t bytes))                                \
  X(memHostAlloc, cuMemHostAlloc, (void **address, size_t bytes, unsigned flags))                  \
  X(memFreeHost, cuMemFreeHost, (void *address))                                                   \
  X(memFree, cuMemFree_v2, (CuDevicePtr address))                                                  \
  X(memcpyHtoDAsync, cuMemcpyHtoDAsync_v2,                                                         \
    (CuDevicePtr to, const void *from, size_t bytes, CuStream stream))

/// The resolved driver; one for the process, never closed.
struct CudaDriver {
// Names and parameter lists cannot be in parentheses.
// NOLINTBEGIN(bugprone-macro-parentheses)
#define CALIBATT_CUDA_MEMBER(member, symbol, parameters) CuResult(*member) parameters = nullptr;
  CALIBATT_CUDA_FUNCTIONS(CALIBATT_CUDA_MEMBER)
#undef CALIBATT_CUDA_MEMBER
  // NOLINTEND(bugprone-macro-parentheses)

  /// Opens $CALIBATT_LIBCUDA, or libcuda.so.1 where that is not set, and calls cuInit.
  /// NO_DEVICE where it is missing, lacks a function or finds no GPU.
  static Outcome get(const CudaDriver *&driver);
  /// OK, or a status with the function and the error's name and text.
  Outcome check(CuResult result, const char *function) const;
};

/// Makes a context current for a scope.
class ContextScope {
public:
  ContextScope(const CudaDriver &driver, CuContext context);
  ~ContextScope();
  ContextScope(const ContextScope &) = delete;
  ContextScope &operator=(const ContextScope &) = delete;
  /// Whether the context could be made current.
  const Outcome &outcome() const { return entered; }

private:
  const CudaDriver &driver;
  bool pushed = false;
  Outcome entered;
};

} // namespace calibatt

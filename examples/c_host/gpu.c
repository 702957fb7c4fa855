#include "gpu.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

/* What of cuda.h is needed; a CUresult of 0 is success. */
static int (*init)(unsigned);
static int (*device_get)(int *, int);
static int (*context_retain)(void **, int);
static int (*context_release)(int);
static int (*context_set)(void *);
static int (*synchronize)(void);
static int (*allocate)(gpu_address_t *, size_t);
static int (*release)(gpu_address_t);
static int (*to_device)(gpu_address_t, const void *, size_t);
static int (*to_host)(void *, gpu_address_t, size_t);
static int device;

int gpu_open(char *why, size_t size) {
  static const struct {
    const char *name;
    void **function;
  } functions[] = {
      {"cuInit", (void **)&init},
      {"cuDeviceGet", (void **)&device_get},
      {"cuDevicePrimaryCtxRetain", (void **)&context_retain},
      {"cuDevicePrimaryCtxRelease_v2", (void **)&context_release},
      {"cuCtxSetCurrent", (void **)&context_set},
      {"cuCtxSynchronize", (void **)&synchronize},
      {"cuMemAlloc_v2", (void **)&allocate},
      {"cuMemFree_v2", (void **)&release},
      {"cuMemcpyHtoD_v2", (void **)&to_device},
      {"cuMemcpyDtoH_v2", (void **)&to_host},
  };
  const char *chosen = getenv("CALIBATT_LIBCUDA"); /* the driver libcalibatt uses */
  void *driver = dlopen(chosen && *chosen ? chosen : "libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!driver) {
    snprintf(why, size, "%s", dlerror());
    return 0;
  }
  for (size_t i = 0; i < sizeof functions / sizeof *functions; ++i)
    if (!(*functions[i].function = dlsym(driver, functions[i].name))) {
      snprintf(why, size, "the CUDA driver has no %s", functions[i].name);
      return 0;
    }
  void *context;
  int result;
  if ((result = init(0)) || (result = device_get(&device, 0)) ||
      (result = context_retain(&context, device))) {
    snprintf(why, size, "the CUDA driver says %d", result);
    return 0;
  }
  if ((result = context_set(context))) {
    context_release(device);
    snprintf(why, size, "cuCtxSetCurrent says %d", result);
    return 0;
  }
  return 1;
}

gpu_address_t gpu_allocate(size_t bytes) {
  gpu_address_t address;
  return allocate(&address, bytes) ? 0 : address;
}

int gpu_write(gpu_address_t to, const void *from, size_t bytes) {
  return to_device(to, from, bytes) == 0;
}

int gpu_read(void *to, gpu_address_t from, size_t bytes) {
  return synchronize() == 0 && to_host(to, from, bytes) == 0;
}

void gpu_free(gpu_address_t address) {
  if (address)
    release(address);
}

void gpu_close(void) { context_release(device); }

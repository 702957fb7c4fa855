// A CUDA driver of ours (FakeCuda.cpp, a shared library): it has one "GPU", records what the
// runtime asks of it, and fails where a test tells it to. Several threads may call it at once; its
// state is read and changed while none does.
#pragma once

#include "runtime/format/CalibrationParams.h"

#include <array>
#include <cstdint>
#include <cstdlib>
#include <dlfcn.h>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace calibatt::test {

/// One cuTensorMapEncodeTiled.
struct FakeTensorMap {
  int dataType = 0, interleave = 0, swizzle = 0, l2Promotion = 0, fill = 0;
  const void *address = nullptr;
  std::array<uint64_t, 5> dims{};
  std::array<uint64_t, 4> strides{};
  std::array<uint32_t, 5> box{}, elementStrides{};
};

/// One cuLaunchKernel. Maps are numbered by the first word of their 128 bytes.
struct FakeLaunch {
  std::string kernel;
  std::array<unsigned, 3> grid{}, block{};
  unsigned sharedBytes = 0;
  const void *stream = nullptr;
  LaunchParams params{};
  std::vector<uint32_t> work;       ///< copied from "device" memory at launch
  std::vector<uint32_t> begins;     ///< likewise: where each CTA's list of tiles begins
  std::vector<unsigned char> image; ///< likewise; empty without a schedule
  EnergyParams energy{};            ///< of a calibration kernel, with params inside it
  CoverParams cover{};
  NormParams norms{};
  LseParams lse{};
  RepetitionParams repetition{};
};

struct FakeCuda {
  int version = 13000, major = 9, minor = 0, devices = 1;
  int processors = 132;
  int capturing = 0; ///< what every stream but the default one says
  /// A call of the runtime ended that capture: made in a mode that does not allow it, or on the
  /// legacy default stream.
  std::string captureLostBy;
  std::string failing;         ///< a function that fails, and
  int failure = 0;             ///< the error it fails with,
  int failingCall = 0;         ///< at this call of it (from 1 on); 0: at every one
  bool namelessErrors = false; ///< cuGetErrorName and cuGetErrorString fail
  std::vector<FakeTensorMap> maps;
  std::vector<FakeLaunch> launches;
  std::vector<std::vector<unsigned char>> libraries; ///< loaded code
  int loadedLibraries = 0;                           ///< loaded less unloaded
  std::map<uint64_t, uint64_t> allocations;          ///< address -> bytes
  int lostAllocations = 0; ///< not freed when the last hold on the context went, and gone with it
  std::map<std::string, int> calls;
  int streams = 0;         ///< made less destroyed
  int hostAllocations = 0; ///< page-locked, made less freed
  int rerunsPerLaunch = 0; ///< what a launch adds to its counter
  int dynamicShared = 0;   ///< last cuKernelSetAttribute
  int contextDepth = 0;    ///< pushes less pops, of all threads
  int retained = 0;        ///< primary context
};

} // namespace calibatt::test

/// The driver's state, for the test that loaded it.
extern "C" calibatt::test::FakeCuda *fakeCudaState();

namespace calibatt::test {

/// Loads the driver at `path` for this process and has the runtime open the same.
inline FakeCuda &loadFakeCuda(const char *path) {
  setenv("CALIBATT_LIBCUDA", path, 1);
  void *library = dlopen(path, RTLD_NOW);
  if (!library)
    throw std::runtime_error(dlerror());
  return *reinterpret_cast<FakeCuda *(*)()>(dlsym(library, "fakeCudaState"))();
}

} // namespace calibatt::test

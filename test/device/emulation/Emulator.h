// One CTA of a CUDA kernel on fibers: threads, warp collectives, barriers, and
// the asynchronous engines of Hopper as a functional model. Called by the ptx
// wrappers beside it and by CudaKeywords.h.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>

namespace calibatt {
struct TensorMap;
/// The CTA's dynamic shared memory; a shared "address" is an offset into it.
extern unsigned char dynamicSmem[];
} // namespace calibatt

namespace emulator {

constexpr int kSharedBytes = 232448;

struct Dim3 {
  unsigned x = 0, y = 0, z = 0;
};

/// Runs `kernel` once a CTA, `ctas` CTAs one after the other, 384 threads each,
/// shared memory poisoned before each. Throws std::runtime_error on a deadlock
/// or on an access the hardware would not allow.
void launch(unsigned ctas, uint64_t seed, const std::function<void()> &kernel);

/// The running thread.
Dim3 threadIndex();
Dim3 blockIndex();
Dim3 gridSize();

/// Suspends the running thread until `ready()`; `what` is shown in a deadlock.
void waitUntil(const std::function<bool()> &ready, const char *what);
/// Runs `action` after a random number of scheduling rounds.
void later(std::function<void()> action);
/// Whether a random decision falls this way (1 in `n`).
bool oneIn(unsigned n);
[[noreturn]] void fail(const std::string &message);

/// Warp collective: every lane gives a word, every lane gets all 32.
const uint32_t *exchange(uint32_t value);

/// mbarriers by shared address.
void mbarrierInit(uint32_t address, uint32_t count);
void mbarrierArrive(uint32_t address, uint32_t expectBytes);
void mbarrierComplete(uint32_t address, uint32_t bytes);
bool mbarrierPhaseDone(uint32_t address, uint32_t parity);

/// Named barriers.
void barrier(uint32_t id, uint32_t threads, bool wait);

/// A rank-5 bf16 tensor map of the model: what cuTensorMapEncodeTiled would
/// encode, in clear. Strides in bytes, of dimensions 1..4.
struct MapFields {
  void *base;
  uint32_t dims[5];
  uint64_t strides[4];
  uint32_t box[5];
};
calibatt::TensorMap encode(const MapFields &fields);
void tmaLoad(uint32_t smem, const calibatt::TensorMap *map, uint32_t barrier,
             const uint32_t (&at)[5]);
void tmaStore(const calibatt::TensorMap *map, uint32_t smem, const uint32_t (&at)[5]);
void tmaStoreWait();

/// wgmma m64nNk16. `a` is null where A comes from the descriptor.
void wgmma(float *d, int n, const uint32_t *a, uint64_t descA, uint64_t descB, bool transposeB,
           bool accumulate);
void wgmmaCommit();
void wgmmaWait(int pending);

} // namespace emulator

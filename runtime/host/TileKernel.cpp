#include "runtime/host/TileKernel.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <vector>

namespace calibatt {
namespace {

#define CALIBATT_INLINE inline __attribute__((always_inline))

constexpr int kRows = int(kBlock);

// A block of Rows x (Vectors * Lanes) of c (+)= a * b, held in registers over the whole inner
// dimension. Lanes is the width of a register: wider vectors would live in memory.
template <int Rows, int Vectors, int Lanes>
CALIBATT_INLINE void productBlock(const float *a, const float *b, float *c, int inner, bool add) {
  typedef float Vector __attribute__((vector_size(Lanes * sizeof(float)), aligned(4), may_alias));
  Vector sums[Rows][Vectors];
  for (int r = 0; r < Rows; ++r)
    for (int i = 0; i < Vectors; ++i)
      sums[r][i] =
          add ? *reinterpret_cast<const Vector *>(c + r * kTileStride + i * Lanes) : Vector{};
  for (int d = 0; d < inner; ++d) {
    Vector columns[Vectors];
    for (int i = 0; i < Vectors; ++i)
      columns[i] = *reinterpret_cast<const Vector *>(b + d * kTileStride + i * Lanes);
    for (int r = 0; r < Rows; ++r)
      for (int i = 0; i < Vectors; ++i)
        sums[r][i] += a[r * kTileStride + d] * columns[i];
  }
  for (int r = 0; r < Rows; ++r)
    for (int i = 0; i < Vectors; ++i)
      *reinterpret_cast<Vector *>(c + r * kTileStride + i * Lanes) = sums[r][i];
}

// c[128][cols] (+)= a[128][inner] * b[inner][cols]; one panel of b stays in the L1 cache.
template <int Rows, int Vectors, int Lanes>
CALIBATT_INLINE void product(const float *a, const float *b, float *c, int inner, int cols,
                             bool add) {
  for (int col = 0; col < cols; col += Vectors * Lanes)
    for (int row = 0; row < kRows; row += Rows)
      productBlock<Rows, Vectors, Lanes>(a + row * kTileStride, b + col,
                                         c + row * kTileStride + col, inner, add);
}

// 2^x for x <= 0, to about 1e-7 relative; results below 2^-126 stay there, NaN stays NaN.
// No branch and no call, so that loops over it vectorise.
CALIBATT_INLINE float exp2Fast(float x) {
  x = x < -126.0f ? -126.0f : x;
  const float shifted = x + 12582912.0f; // 1.5 * 2^23: the integer lands in the low bits
  const float f = x - (shifted - 12582912.0f);
  float p = 1.5403530e-4f;
  p = p * f + 1.3333558e-3f;
  p = p * f + 9.6181291e-3f;
  p = p * f + 5.5504109e-2f;
  p = p * f + 2.4022651e-1f;
  p = p * f + 6.9314718e-1f;
  p = p * f + 1.0f;
  const uint32_t exponent = (std::bit_cast<uint32_t>(shifted) + 127u) << 23;
  return p * std::bit_cast<float>(exponent);
}

// Turns logits into probabilities and brings o and sum to the new maximum.
CALIBATT_INLINE void onlineSoftmax(TileState &tile, int headDim, int keys) {
  constexpr int kLanes = 16;
  for (int row = 0; row < kRows; ++row) {
    float *s = tile.s + row * kTileStride;
    for (int j = keys; j < kRows; ++j)
      s[j] = -1e30f;
    float lanes[kLanes];
    for (int l = 0; l < kLanes; ++l)
      lanes[l] = s[l];
    for (int j = kLanes; j < kRows; j += kLanes)
      for (int l = 0; l < kLanes; ++l)
        lanes[l] = lanes[l] < s[j + l] ? s[j + l] : lanes[l];
    float newMax = tile.max[row];
    for (int l = 0; l < kLanes; ++l)
      newMax = newMax < lanes[l] ? lanes[l] : newMax;

    if (newMax > tile.max[row]) {
      const float rescale = exp2Fast(tile.max[row] - newMax);
      tile.max[row] = newMax;
      tile.sum[row] *= rescale;
      float *o = tile.o + row * kTileStride;
      for (int d = 0; d < headDim; ++d)
        o[d] *= rescale;
    }
    for (int j = 0; j < kRows; ++j)
      s[j] = exp2Fast(s[j] - newMax);
    for (int j = keys; j < kRows; ++j)
      s[j] = 0;
    for (int l = 0; l < kLanes; ++l)
      lanes[l] = 0;
    for (int j = 0; j < kRows; j += kLanes)
      for (int l = 0; l < kLanes; ++l)
        lanes[l] += s[j + l];
    float sum = 0;
    for (int l = 0; l < kLanes; ++l)
      sum += lanes[l];
    tile.sum[row] += sum;
  }
}

template <int Rows, int Vectors, int Lanes>
CALIBATT_INLINE void visit(TileState &tile, int headDim, int keys) {
  product<Rows, Vectors, Lanes>(tile.q, tile.kt, tile.s, headDim, kRows, false);
  onlineSoftmax(tile, headDim, keys);
  product<Rows, Vectors, Lanes>(tile.s, tile.v, tile.o, kRows, headDim, true);
}

void visitBaseline(TileState &tile, int headDim, int keys) { visit<4, 2, 4>(tile, headDim, keys); }

#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) void visitAvx2(TileState &tile, int headDim, int keys) {
  visit<4, 2, 8>(tile, headDim, keys);
}
__attribute__((target("avx512f,avx512dq,avx512vl,avx512bw,prefer-vector-width=512,fma"))) void
visitAvx512(TileState &tile, int headDim, int keys) {
  visit<8, 2, 16>(tile, headDim, keys);
}
#endif

std::vector<TileKernel> runnable() {
  std::vector<TileKernel> kernels;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw"))
    kernels.push_back({"avx512", visitAvx512});
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    kernels.push_back({"avx2", visitAvx2});
#endif
  kernels.push_back({"baseline", visitBaseline});
  return kernels;
}

} // namespace

void beginTile(TileState &tile, int headDim) {
  for (int row = 0; row < kRows; ++row) {
    tile.max[row] = -1e30f;
    tile.sum[row] = 0;
    for (int d = 0; d < headDim; ++d)
      tile.o[row * kTileStride + d] = 0;
  }
}

std::span<const TileKernel> tileKernels() {
  static const std::vector<TileKernel> kernels = runnable();
  return kernels;
}

} // namespace calibatt

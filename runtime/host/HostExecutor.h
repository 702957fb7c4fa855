// Attention on the CPU from the very schedule a kernel reads: one query tile (128 rows) at a time,
// float32 arithmetic, bf16 or float32 tensors.
#pragma once

#include "runtime/format/Result.h"
#include "runtime/format/ScheduleImage.h"

#include <cstdint>
#include <span>
#include <vector>

namespace calibatt {

enum class HostDtype { Bf16, F32 };

/// Strides of [batch, head, token] in elements; the last dimension is contiguous.
struct HostStrides {
  int64_t batch = 0, head = 0, token = 0;
};

/// What a dense launch leaves of its block energies (calibatt.h), heads being those of the tensors.
struct HostEnergies {
  uint32_t heads = 0;
  bool weighted = false;     ///< by the norm of each value
  float *energies = nullptr; ///< [batch, heads, blocks, blocks]
  float *rowMax = nullptr;   ///< [batch, heads, tokens], or null
};

/// One launch: the tensors of a call, and the schedule of one kernel.
struct HostLaunch {
  const Schedule *schedule = nullptr;
  /// Schedule head = tensor head - headBase, modulo 2^32 (as in LaunchParams).
  uint32_t headBase = 0;
  uint32_t headDim = 0; ///< 64 or 128
  double scale = 0;
  HostDtype dtype = HostDtype::Bf16;
  const void *q = nullptr, *k = nullptr, *v = nullptr;
  void *o = nullptr;
  HostStrides qStrides, kStrides, vStrides, oStrides;
  float *lse = nullptr; ///< natural log, or null; tokens contiguous
  int64_t lseBatchStride = 0, lseHeadStride = 0;
  const HostEnergies *energies = nullptr; ///< or null; the schedule then has every block
};

/// One query tile: tensor head and batch entry, and the query block.
struct HostTile {
  uint32_t batch = 0, head = 0, row = 0;
};

/// Every tile of `batch` entries and tensor heads [headBegin, headBegin + headCount) of a launch,
/// which has to cover these heads.
std::vector<HostTile> hostTiles(const HostLaunch &launch, uint32_t batch, uint32_t headBegin,
                                uint32_t headCount);

/// Computes the given tiles (any subset, in any order) on `threads` threads (0: one per CPU) and
/// writes their rows of o and lse; everything else stays untouched. Fails where a tile or head_dim
/// is outside what the schedule covers, before anything is written.
Status runHostTiles(const HostLaunch &launch, std::span<const HostTile> tiles, uint32_t threads);

/// bf16 (the upper half of a float32) from and to float32; to rounds to nearest even.
float bf16ToFloat(uint16_t bits);
uint16_t floatToBf16(float value);

} // namespace calibatt

#include "runtime/host/HostExecutor.h"

#include "runtime/format/Threads.h"
#include "runtime/host/TileEnergies.h"
#include "runtime/host/TileKernel.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstring>
#include <memory>
#include <numbers>
#include <optional>
#include <thread>
#include <vector>

namespace calibatt {

float bf16ToFloat(uint16_t bits) { return std::bit_cast<float>(uint32_t(bits) << 16); }

uint16_t floatToBf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if (std::isnan(value))
    return uint16_t(bits >> 16 | 0x40);
  return uint16_t((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

namespace {

// Address of row `token` of one head of a tensor.
const char *rowAddress(const void *data, HostDtype dtype, const HostStrides &s, const HostTile &t,
                       uint64_t token) {
  const int64_t element =
      int64_t(t.batch) * s.batch + int64_t(t.head) * s.head + int64_t(token) * s.token;
  return static_cast<const char *>(data) + element * (dtype == HostDtype::Bf16 ? 2 : 4);
}

void loadRow(const char *from, HostDtype dtype, int count, float factor, float *to) {
  if (dtype == HostDtype::F32) {
    std::memcpy(to, from, size_t(count) * 4);
  } else {
    uint16_t bits[kBlock];
    std::memcpy(bits, from, size_t(count) * 2);
    for (int d = 0; d < count; ++d)
      to[d] = bf16ToFloat(bits[d]);
  }
  if (factor != 1.0f)
    for (int d = 0; d < count; ++d)
      to[d] *= factor;
}

/// Row r of a tile: the query it computes, and the tokens its output goes to.
PackedQuery queryOf(const HostLaunch &launch, const HostTile &tile, int r) {
  const uint32_t index = tile.row * kBlock + uint32_t(r);
  return launch.schedule->isRepetitive(tile.head - launch.headBase)
             ? packedQuery(launch.schedule->grid, index)
             : PackedQuery{index, index, 1};
}

void loadQueries(const HostLaunch &launch, const HostTile &tile, int rows, TileState &state) {
  const float factor = float(launch.scale * std::numbers::log2e);
  std::memset(state.q, 0, sizeof state.q);
  for (int r = 0; r < rows; ++r)
    loadRow(
        rowAddress(launch.q, launch.dtype, launch.qStrides, tile, queryOf(launch, tile, r).token),
        launch.dtype, int(launch.headDim), factor, state.q + r * kTileStride);
}

void loadKeysAndValues(const HostLaunch &launch, const HostTile &tile, uint64_t first, int keys,
                       TileState &state) {
  const int dim = int(launch.headDim);
  // Keys are transposed in strips of 16, which keeps both sides in cache lines.
  constexpr int kStrip = 16;
  float strip[kStrip][kBlock];
  for (int base = 0; base < int(kBlock); base += kStrip) {
    for (int j = 0; j < kStrip; ++j) {
      float *value = state.v + (base + j) * kTileStride;
      if (base + j < keys) {
        const uint64_t token = first + uint64_t(base + j);
        loadRow(rowAddress(launch.k, launch.dtype, launch.kStrides, tile, token), launch.dtype, dim,
                1.0f, strip[j]);
        loadRow(rowAddress(launch.v, launch.dtype, launch.vStrides, tile, token), launch.dtype, dim,
                1.0f, value);
      } else {
        std::fill_n(strip[j], dim, 0.0f);
        std::fill_n(value, dim, 0.0f);
      }
    }
    for (int d = 0; d < dim; ++d)
      for (int j = 0; j < kStrip; ++j)
        state.kt[d * kTileStride + base + j] = strip[j][d];
  }
}

void storeTile(const HostLaunch &launch, const HostTile &tile, int rows, TileState &state) {
  const int dim = int(launch.headDim);
  for (int r = 0; r < rows; ++r) {
    float *o = state.o + r * kTileStride;
    const float inverse = 1.0f / state.sum[r];
    uint16_t bits[kBlock];
    for (int d = 0; d < dim; ++d) {
      o[d] *= inverse;
      bits[d] = floatToBf16(o[d]);
    }
    const bool wide = launch.dtype == HostDtype::F32;
    const void *from = wide ? static_cast<const void *>(o) : bits;
    const float lse =
        float((double(state.max[r]) + std::log2(double(state.sum[r]))) * std::numbers::ln2);
    const PackedQuery query = queryOf(launch, tile, r);
    for (uint32_t copy = 0; copy < query.copies; ++copy) {
      const uint64_t token = query.first + uint64_t(copy) * launch.schedule->grid.width;
      std::memcpy(
          const_cast<char *>(rowAddress(launch.o, launch.dtype, launch.oStrides, tile, token)),
          from, size_t(dim) * (wide ? 4 : 2));
      if (launch.lse)
        launch.lse[int64_t(tile.batch) * launch.lseBatchStride +
                   int64_t(tile.head) * launch.lseHeadStride + int64_t(token)] = lse;
    }
  }
}

/// `logs` is where the tile's energies are gathered: [blocks, 128] where the launch wants them.
void runTile(const HostLaunch &launch, const HostTile &tile, TileState &state,
             std::span<double> logs) {
  const Schedule &schedule = *launch.schedule;
  const auto rowsAt = [&](uint32_t block, uint64_t length) {
    return int(std::min<uint64_t>(kBlock, length - uint64_t(block) * kBlock));
  };
  const uint32_t head = tile.head - launch.headBase;
  const int rows =
      rowsAt(tile.row, schedule.isRepetitive(head) ? packedQueries(schedule.grid, schedule.tokens)
                                                   : schedule.tokens);
  loadQueries(launch, tile, rows, state);
  beginTile(state, int(launch.headDim));
  const VisitKeyBlock visit = tileKernels().front().visit;
  std::optional<TileEnergies> energies;
  if (launch.energies)
    energies.emplace(*launch.energies, schedule, int(launch.headDim), logs);
  for (uint16_t block : schedule.row(head, tile.row)) {
    const int keys = rowsAt(block, schedule.tokens);
    loadKeysAndValues(launch, tile, uint64_t(block) * kBlock, keys, state);
    visit(state, int(launch.headDim), keys);
    if (energies)
      energies->record(state, block, keys);
  }
  if (energies)
    energies->finish(state, tile, rows);
  storeTile(launch, tile, rows, state);
}

} // namespace

std::vector<HostTile> hostTiles(const HostLaunch &launch, uint32_t batch, uint32_t headBegin,
                                uint32_t headCount) {
  std::vector<HostTile> tiles;
  tiles.reserve(size_t(batch) * headCount * launch.schedule->queryBlocks);
  for (uint32_t b = 0; b < batch; ++b)
    for (uint32_t h = headBegin; h < headBegin + headCount; ++h)
      for (uint32_t row = 0; row < launch.schedule->rowsOf(h - launch.headBase); ++row)
        tiles.push_back({b, h, row});
  return tiles;
}

Status runHostTiles(const HostLaunch &launch, std::span<const HostTile> tiles, uint32_t threads) {
  const Schedule &schedule = *launch.schedule;
  if (launch.headDim != 64 && launch.headDim != 128)
    return Error{fmt::format("host device: head_dim {} is neither 64 nor 128", launch.headDim)};
  for (const HostTile &tile : tiles)
    if (tile.head - launch.headBase >= schedule.heads ||
        tile.row >= schedule.rowsOf(tile.head - launch.headBase))
      return Error{fmt::format("host device: tile (head {}, row {}) is outside the schedule of {} "
                               "heads from {} on and {} rows",
                               tile.head, tile.row, schedule.heads, launch.headBase,
                               schedule.queryBlocks)};

  size_t count = threads ? threads : std::max(1u, std::thread::hardware_concurrency());
  count = std::max<size_t>(1, std::min(count, tiles.size()));
  // Made before the threads are, so that running out of memory is the caller's exception.
  const auto states = std::make_unique<TileState[]>(count);
  const size_t logsEach = launch.energies ? size_t(schedule.keyBlocks) * kBlock : 0;
  std::vector<double> logs(count * logsEach);
  std::atomic<size_t> next{0};
  const auto work = [&](size_t thread) {
    for (size_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < tiles.size();)
      runTile(launch, tiles[i], states[thread],
              std::span(logs).subspan(thread * logsEach, logsEach));
  };
  // Threads that could not be started leave their tiles to the others.
  const auto others = startThreads(count - 1, [&](size_t i) { work(i + 1); });
  work(0);
  return {};
}

} // namespace calibatt

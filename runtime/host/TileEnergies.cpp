#include "runtime/host/TileEnergies.h"

#include <cmath>
#include <numbers>

namespace calibatt {

void TileEnergies::record(const TileState &state, uint32_t column, int keys) {
  double weights[kBlock];
  for (int j = 0; j < keys; ++j) {
    weights[j] = 1;
    if (!out.weighted)
      continue;
    double square = 0;
    for (int d = 0; d < headDim; ++d)
      square += double(state.v[j * kTileStride + d]) * state.v[j * kTileStride + d];
    weights[j] = std::sqrt(square);
  }
  for (int row = 0; row < int(kBlock); ++row) {
    double sum = 0;
    for (int j = 0; j < keys; ++j)
      sum += state.s[row * kTileStride + j] * weights[j];
    // A later visit may raise the maximum that the weights refer to.
    logs[size_t(column) * kBlock + size_t(row)] = std::log2(sum) + state.max[row];
  }
}

void TileEnergies::finish(const TileState &state, const HostTile &tile, int rows) const {
  const uint64_t head = uint64_t(tile.batch) * out.heads + tile.head;
  double rowLogs[kBlock];
  for (int row = 0; row < rows; ++row) {
    rowLogs[row] = std::log2(double(state.sum[row])) + state.max[row];
    if (out.rowMax)
      out.rowMax[head * schedule.tokens + uint64_t(tile.row) * kBlock + uint64_t(row)] =
          float(state.max[row] * std::numbers::ln2);
  }
  float *energies = out.energies + (head * schedule.queryBlocks + tile.row) * schedule.keyBlocks;
  for (uint32_t column = 0; column < schedule.keyBlocks; ++column) {
    double sum = 0;
    for (int row = 0; row < rows; ++row)
      sum += std::exp2(logs[size_t(column) * kBlock + size_t(row)] - rowLogs[row]);
    energies[column] = float(sum / rows);
  }
}

} // namespace calibatt

// Block fragments and distance kernels between them.
#include "calib_profiles/TokenGeometry.h"

#include <cmath>
#include <cstdlib>

namespace calibatt {

std::vector<std::vector<RowFragment>> rowFragments(const Grid &grid, uint32_t blockSize) {
  const uint64_t tokens = grid.tokens();
  std::vector<std::vector<RowFragment>> blocks((tokens + blockSize - 1) / blockSize);
  for (uint64_t row = 0; row < uint64_t(grid.frames) * grid.height; ++row) {
    const uint64_t rowEnd = (row + 1) * grid.width;
    for (uint64_t first = row * grid.width; first < rowEnd;) {
      const uint64_t block = first / blockSize;
      const uint64_t end = std::min(rowEnd, (block + 1) * blockSize);
      blocks[block].push_back({uint32_t(row / grid.height), uint32_t(row % grid.height),
                               float(double(first + end - 1) / 2 - double(row * grid.width)),
                               float(end - first) / float(blockSize)});
      first = end;
    }
  }
  return blocks;
}

std::vector<float> kernelEnergies(const Grid &grid,
                                  const std::vector<std::vector<RowFragment>> &fragments,
                                  const DistanceKernel &kernel) {
  auto decay = [](uint32_t length, double reach) {
    std::vector<float> table(length);
    for (uint32_t i = 0; i < length; ++i)
      table[i] = float(std::exp(-double(i) / reach));
    return table;
  };
  const std::vector<float> byFrame = decay(grid.frames, kernel.frames);
  const std::vector<float> byRow = decay(grid.height, kernel.rows);
  const std::vector<float> byColumn = decay(grid.width, kernel.columns);

  const size_t blocks = fragments.size();
  std::vector<float> energies(blocks * blocks);
  for (size_t r = 0; r < blocks; ++r) {
    float *row = energies.data() + r * blocks;
    double total = 0;
    for (size_t c = 0; c < blocks; ++c) {
      float sum = 0;
      for (const RowFragment &q : fragments[r])
        for (const RowFragment &k : fragments[c])
          sum += q.share * k.share * byFrame[std::abs(int(q.frame) - int(k.frame))] *
                 byRow[std::abs(int(q.row) - int(k.row))] *
                 byColumn[uint32_t(std::abs(q.column - k.column))];
      row[c] = sum;
      total += sum;
    }
    for (size_t c = 0; c < blocks; ++c)
      row[c] = float(row[c] / total);
  }
  return energies;
}

} // namespace calibatt

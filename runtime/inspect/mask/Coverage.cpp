// Sums over the blocks, and over the tokens, that lie under a pixel.
#include "runtime/inspect/mask/Coverage.h"

#include <algorithm>

namespace calibatt {

PixelScale scaleToFit(uint32_t blocks, uint32_t room, uint32_t most) {
  if (blocks <= room)
    return {std::clamp(room / blocks, 1u, most), 1};
  return {1, (blocks + room - 1) / room};
}

namespace {

/// Blocks under a pixel: [first, last).
struct BlockRange {
  uint32_t first, last;
};

std::vector<BlockRange> rangesOf(uint32_t blocks, PixelScale scale) {
  std::vector<BlockRange> ranges;
  for (uint32_t pixel = 0; pixel < scale.pixels(blocks); ++pixel) {
    const uint32_t first = pixel / scale.pixelsPerBlock * scale.blocksPerPixel;
    ranges.push_back({first, std::min(blocks, first + scale.blocksPerPixel)});
  }
  return ranges;
}

} // namespace

Coverage coverageOf(const SiteMask &mask, PixelScale across, PixelScale down) {
  const std::vector<BlockRange> columns = rangesOf(mask.blocks, across);
  const std::vector<BlockRange> rows = rangesOf(mask.blocks, down);
  Coverage coverage{uint32_t(columns.size()), uint32_t(rows.size()), {}};
  coverage.share.reserve(columns.size() * rows.size());
  for (const BlockRange &row : rows)
    for (const BlockRange &column : columns) {
      uint32_t kept = 0;
      for (uint32_t query = row.first; query < row.last; ++query)
        for (uint32_t key = column.first; key < column.last; ++key)
          kept += mask.at(query, key);
      coverage.share.push_back(float(kept) /
                               float((row.last - row.first) * (column.last - column.first)));
    }
  return coverage;
}

std::vector<float> anchorCoverage(const SiteMask &mask, const VideoShape &shape, PixelScale down) {
  if (mask.anchorRows.empty())
    return {};
  const double tokensPerPixel = shape.block / down.position(1);
  std::vector<double> inside(down.pixels(mask.blocks));
  for (uint32_t frame = 0; frame < shape.frameCount(); ++frame)
    for (uint32_t row : mask.anchorRows) {
      const double begin = double((uint64_t(frame) * shape.height + row) * shape.width);
      const double end = begin + shape.width;
      for (auto pixel = size_t(begin / tokensPerPixel);
           pixel < inside.size() && double(pixel) * tokensPerPixel < end; ++pixel)
        inside[pixel] += std::min(end, double(pixel + 1) * tokensPerPixel) -
                         std::max(begin, double(pixel) * tokensPerPixel);
    }
  std::vector<float> shares;
  for (size_t pixel = 0; pixel < inside.size(); ++pixel) {
    const double tokens =
        std::min(tokensPerPixel, double(shape.tokens()) - double(pixel) * tokensPerPixel);
    shares.push_back(tokens > 0 ? float(std::min(1.0, inside[pixel] / tokens)) : kNoQueries);
  }
  return shares;
}

} // namespace calibatt

// Masks at the resolution of a picture: every pixel says how much of the blocks
// under it is kept, so that nothing is dropped where many blocks share one.
#pragma once

#include "runtime/inspect/mask/SiteMask.h"

#include <cstdint>
#include <vector>

namespace calibatt {

/// Blocks and pixels along one axis: a block is several pixels or a pixel several
/// blocks, always a whole number, so that every pixel is made of equally many.
struct PixelScale {
  uint32_t pixelsPerBlock = 1, blocksPerPixel = 1; ///< one of them is 1

  /// Pixels of an axis; the last one may have fewer blocks.
  uint32_t pixels(uint32_t blocks) const {
    return (blocks * pixelsPerBlock + blocksPerPixel - 1) / blocksPerPixel;
  }
  /// Where a position in blocks lies, in pixels.
  double position(double block) const { return block * pixelsPerBlock / blocksPerPixel; }
};

/// The largest scale whose pixels are at most `room`, and at most `most` a block.
PixelScale scaleToFit(uint32_t blocks, uint32_t room, uint32_t most);

struct Coverage {
  uint32_t width = 0, height = 0;
  std::vector<float> share; ///< [height, width] kept of the blocks under each pixel, 0 to 1

  float at(uint32_t x, uint32_t y) const { return share[size_t(y) * width + x]; }
};

Coverage coverageOf(const SiteMask &mask, PixelScale across, PixelScale down);
constexpr float kNoQueries = -1;
/// [pixels] share of the queries under each pixel that lie in a mask's anchor
/// rows, which are finer than blocks; kNoQueries behind the last token; empty where it has none.
std::vector<float> anchorCoverage(const SiteMask &mask, const VideoShape &shape, PixelScale down);

} // namespace calibatt

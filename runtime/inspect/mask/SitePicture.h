// The mask of one site as a picture with a title and axes.
#pragma once

#include "runtime/format/Result.h"
#include "runtime/inspect/mask/MapPainter.h"

namespace calibatt {

struct MaskPicture {
  Canvas canvas;
  std::vector<MapPlace> maps;
};

/// Title, mask, axes in blocks (left, top) and in frames (right, bottom), legend.
/// `pixelsPerBlock` 0 chooses one: about 1000 pixels where the blocks are fewer.
/// Fails where the picture would have more than kMaxPixels.
Result<MaskPicture> sitePicture(const SiteMask &mask, const VideoShape &shape,
                                uint32_t pixelsPerBlock = 0);

/// The words of the titles: "computed 32.1 %", "kept mass 94.3 %", ...
std::vector<std::string> siteFacts(const SiteMask &mask);
std::vector<std::string> shapeFacts(const VideoShape &shape);
/// Groups of facts, each from a line of its own on, as lines no wider than
/// `width` pixels; what is longer is cut.
std::vector<std::string> flowedLines(const std::vector<std::vector<std::string>> &groups,
                                     uint32_t width);

} // namespace calibatt

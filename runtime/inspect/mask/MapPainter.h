// One mask as coloured pixels: the part that a single picture and a contact
// sheet have in common.
#pragma once

#include "runtime/inspect/mask/Canvas.h"
#include "runtime/inspect/mask/Coverage.h"

#include <string>
#include <utility>
#include <vector>

namespace calibatt {

/// Blue for what is computed; orange for repetitive sites, dark where rows are
/// computed, pale where they are copied from those.
namespace colours {
constexpr Colour kPaper{255, 255, 255}, kInk{31, 41, 55}, kQuiet{107, 114, 128};
constexpr Colour kSkipped{243, 245, 248}, kKept{29, 78, 140};
constexpr Colour kAnchor{180, 52, 8}, kCopied{253, 226, 197};
constexpr Colour kFrameLine{148, 163, 184}, kOutline{156, 163, 175};
} // namespace colours

/// A mask in a picture. Pixel (x, y) and `pixels` to the right and down belong to it.
struct MapPlace {
  Site site;
  uint32_t x = 0, y = 0, pixels = 0;
  PixelScale scale;
};

/// Whether frames are large enough, in pixels, for their boundaries to be drawn.
bool drawsFrames(const VideoShape &shape, PixelScale scale);

/// Draws the mask at `place`, with the boundaries of frames over it in tints
/// that leave kept and skipped blocks apart, and an outline around it.
void paintMap(Canvas &canvas, const MapPlace &place, const SiteMask &mask, const VideoShape &shape);

/// What a reader has to know about the colours: a colour and a word each.
std::vector<std::pair<Colour, std::string>> legendOf(bool masks, bool repetitive, bool frames);
/// Draws it on one line; returns its width.
uint32_t paintLegend(Canvas &canvas, uint32_t x, uint32_t y,
                     const std::vector<std::pair<Colour, std::string>> &legend);
uint32_t legendWidth(const std::vector<std::pair<Colour, std::string>> &legend);

} // namespace calibatt

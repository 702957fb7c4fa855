// Colours of pixels: coverage first, then the lines of blocks and frames over it.
#include "runtime/inspect/mask/MapPainter.h"

#include <algorithm>
#include <cmath>

namespace calibatt {
namespace {

/// From this size on blocks are told apart by thin lines, and frames by thick ones.
constexpr uint32_t kGridPixels = 12;
/// Steps between no block and all blocks of a pixel, and between copied and
/// anchor rows: few enough for a palette.
constexpr double kCoverageSteps = 16, kAnchorSteps = 8;

/// A frame below it has more boundary than inside.
constexpr double kLeastFramePixels = 5;

enum class Line : uint8_t { None, Block, Frame };

/// [pixels] what is drawn over each column (or row).
std::vector<Line> linesOf(const VideoShape &shape, PixelScale scale, uint32_t pixels) {
  std::vector<Line> lines(pixels, Line::None);
  if (scale.pixelsPerBlock >= kGridPixels)
    for (uint32_t at = scale.pixelsPerBlock; at < pixels; at += scale.pixelsPerBlock)
      lines[at] = Line::Block;
  if (!drawsFrames(shape, scale))
    return lines;
  const uint32_t thick = scale.pixelsPerBlock >= kGridPixels ? 2 : 1;
  for (uint32_t frame = 1; frame <= shape.frameCount(); ++frame) {
    const auto at = uint32_t(std::lround(scale.position(shape.frameStart(frame))));
    for (uint32_t x = at; x < std::min(pixels, at + thick); ++x)
      lines[x] = Line::Frame;
  }
  return lines;
}

/// How far a line pulls skipped pixels to the line's colour and kept ones to paper.
Colour underLine(Colour colour, double coverage, Line line) {
  switch (line) {
  case Line::None:
    return colour;
  case Line::Block:
    return mix(mix(colour, colours::kPaper, 0.15), mix(colour, colours::kFrameLine, 0.2),
               1 - coverage);
  case Line::Frame:
    return mix(mix(colour, colours::kPaper, 0.3), mix(colour, colours::kFrameLine, 0.5),
               1 - coverage);
  }
  return colour;
}

} // namespace

bool drawsFrames(const VideoShape &shape, PixelScale scale) {
  return shape.frameCount() && scale.position(shape.frameStart(1)) >= kLeastFramePixels;
}

void paintMap(Canvas &canvas, const MapPlace &place, const SiteMask &mask,
              const VideoShape &shape) {
  const Coverage coverage = coverageOf(mask, place.scale, place.scale);
  const std::vector<Line> lines = linesOf(shape, place.scale, place.pixels);
  const std::vector<float> anchors = anchorCoverage(mask, shape, place.scale);
  for (uint32_t y = 0; y < coverage.height; ++y) {
    Colour kept = colours::kKept;
    if (!anchors.empty() && anchors[y] == kNoQueries)
      kept = colours::kPaper;
    else if (!anchors.empty())
      kept = mix(colours::kCopied, colours::kAnchor,
                 std::round(anchors[y] * kAnchorSteps) / kAnchorSteps);
    for (uint32_t x = 0; x < coverage.width; ++x) {
      const double share = std::round(coverage.at(x, y) * kCoverageSteps) / kCoverageSteps;
      canvas.set(
          place.x + x, place.y + y,
          underLine(mix(colours::kSkipped, kept, share), share, std::max(lines[x], lines[y])));
    }
  }
  canvas.frame(place.x, place.y, place.pixels, place.pixels, colours::kOutline);
}

namespace {
constexpr uint32_t kSwatch = 14, kSwatchGap = 8, kLegendGap = 28;
} // namespace

std::vector<std::pair<Colour, std::string>> legendOf(bool masks, bool repetitive, bool frames) {
  std::vector<std::pair<Colour, std::string>> legend;
  if (masks)
    legend.insert(legend.end(), {{colours::kKept, "kept"}, {colours::kSkipped, "skipped"}});
  if (repetitive)
    legend.insert(legend.end(),
                  {{colours::kAnchor, "computed rows"}, {colours::kCopied, "copies of them"}});
  if (frames)
    legend.emplace_back(colours::kFrameLine, "frame boundary");
  return legend;
}

uint32_t legendWidth(const std::vector<std::pair<Colour, std::string>> &legend) {
  uint32_t width = 0;
  for (const auto &[colour, word] : legend)
    width += (width ? kLegendGap : 0) + kSwatch + kSwatchGap + textWidth(word);
  return width;
}

uint32_t paintLegend(Canvas &canvas, uint32_t x, uint32_t y,
                     const std::vector<std::pair<Colour, std::string>> &legend) {
  for (const auto &[colour, word] : legend) {
    canvas.fill(x, y, kSwatch, kSwatch, colour);
    canvas.frame(x, y, kSwatch, kSwatch, colours::kOutline);
    canvas.text(x + kSwatch + kSwatchGap, y, word, colours::kInk);
    x += kSwatch + kSwatchGap + textWidth(word) + kLegendGap;
  }
  return legendWidth(legend);
}

} // namespace calibatt

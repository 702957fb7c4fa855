// Layout of a single mask: title, axes on four sides, legend.
#include "runtime/inspect/mask/SitePicture.h"

#include "runtime/inspect/TextTable.h"
#include "runtime/inspect/mask/PngFile.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>

namespace calibatt {
namespace {

// Lengths in pixels; letters are those of the font, twice as large.
constexpr uint32_t kMargin = 20, kLine = 26, kTick = 6, kAxisName = 24, kLetter = 12;
constexpr uint32_t kWantedMap = 1000, kMostPerBlock = 64, kLeastTitle = 480;

/// The distance between numbers on an axis of blocks: 1, 2 or 5 times a power of ten.
uint32_t tickStep(double pixelsPerBlock, uint32_t leastPixels) {
  for (uint32_t power = 1;; power *= 10)
    for (uint32_t digit : {1, 2, 5})
      if (digit * power * pixelsPerBlock >= leastPixels)
        return digit * power;
}

/// Axes around a map.
class AxisPainter {
public:
  AxisPainter(Canvas &canvas, const MapPlace &place, const VideoShape &shape)
      : canvas(canvas), place(place), shape(shape) {}

  /// Left and top: block numbers at the middle of their block.
  void paintBlocks(uint32_t blocks) {
    const double perBlock = place.scale.position(1);
    const uint32_t step = tickStep(perBlock, 2 * kLetter + textWidth(std::to_string(blocks)));
    for (uint32_t block = 0; block < blocks; block += step) {
      const uint32_t at = uint32_t(place.scale.position(block + 0.5));
      const std::string number = std::to_string(block);
      canvas.fill(place.x + at, place.y - 1 - kTick, 1, kTick, colours::kQuiet);
      canvas.fill(place.x - 1 - kTick, place.y + at, kTick, 1, colours::kQuiet);
      across(number, at, place.y - kTick - 4 - textHeight());
      down(number, at, int64_t(place.x) - kTick - 6 - textWidth(number));
    }
  }

  /// Right and bottom: frame numbers at the middle of their frame, and the text after them.
  void paintFrames() {
    const uint32_t frames = shape.frameCount();
    const double perFrame = place.scale.position(shape.frameStart(1));
    const uint32_t step = tickStep(perFrame, kLetter + textWidth(std::to_string(frames)));
    const uint32_t end = place.pixels;
    for (uint32_t frame = 0; frame <= frames; ++frame) {
      const uint32_t at = uint32_t(std::lround(place.scale.position(shape.frameStart(frame))));
      if (drawsFrames(shape, place.scale) || frame % step == 0) {
        canvas.fill(place.x + at, place.y + end + 1, 1, kTick, colours::kQuiet);
        canvas.fill(place.x + end + 1, place.y + at, kTick, 1, colours::kQuiet);
      }
      if (frame == frames || frame % step)
        continue;
      const std::string number = std::to_string(frame);
      const auto middle = uint32_t(place.scale.position(shape.frameStart(frame)) + perFrame / 2);
      across(number, middle, place.y + end + kTick + 4);
      down(number, middle, place.x + end + kTick + 6);
    }
    const auto text = uint32_t(place.scale.position(shape.frameStart(frames)));
    if (shape.maxText && end - text >= textWidth("text")) {
      across("text", (text + end) / 2, place.y + end + kTick + 4);
      down("text", (text + end) / 2, place.x + end + kTick + 6);
    }
  }

private:
  void across(const std::string &word, uint32_t middle, int64_t y) {
    canvas.text(int64_t(place.x) + middle - textWidth(word) / 2, y, word, colours::kQuiet);
  }
  void down(const std::string &word, uint32_t middle, int64_t x) {
    // Seven of the nine rows of a letter are above the baseline.
    canvas.text(x, int64_t(place.y) + middle - 7, word, colours::kQuiet);
  }

  Canvas &canvas;
  const MapPlace &place;
  const VideoShape &shape;
};

} // namespace

std::vector<std::string> siteFacts(const SiteMask &mask) {
  std::vector<std::string> facts = {
      fmt::format("computed {}", percentage(mask.computed())),
      fmt::format("kept mass {}", percentage(mask.keptMass)),
  };
  if (mask.repetitive)
    facts.push_back(fmt::format("repetitive, score {:.2f}", mask.repetition));
  if (!mask.form.empty())
    facts.push_back(fmt::format("form {}", mask.form));
  return facts;
}

std::vector<std::string> shapeFacts(const VideoShape &shape) {
  std::vector<std::string> facts = {
      fmt::format("{0} x {0} blocks of {1} tokens", shape.blocks(), shape.block),
      fmt::format("{} of {} x {}", counted(shape.frames, "frame"), shape.height, shape.width)};
  if (shape.maxText)
    facts.push_back(fmt::format("{} of text", counted(shape.maxText, "token")));
  return facts;
}

std::vector<std::string> flowedLines(const std::vector<std::vector<std::string>> &groups,
                                     uint32_t width) {
  std::vector<std::string> lines;
  for (const std::vector<std::string> &facts : groups)
    for (size_t i = 0; i < facts.size(); ++i) {
      if (i && textWidth(lines.back() + "   " + facts[i]) <= width)
        lines.back() += "   " + facts[i];
      else
        lines.push_back(facts[i]);
      // A model may have any name.
      if (const size_t most = width / kLetter; lines.back().size() > most)
        lines.back().replace(most - 3, std::string::npos, "...");
    }
  return lines;
}

Result<MaskPicture> sitePicture(const SiteMask &mask, const VideoShape &shape,
                                uint32_t pixelsPerBlock) {
  if (pixelsPerBlock == 0)
    pixelsPerBlock =
        std::clamp(uint32_t(std::lround(double(kWantedMap) / mask.blocks)), 1u, kMostPerBlock);
  const PixelScale scale{pixelsPerBlock, 1};
  const uint64_t map = uint64_t(mask.blocks) * pixelsPerBlock;
  const std::string lastBlock = std::to_string(mask.blocks),
                    lastFrame = std::to_string(shape.frames);
  const uint32_t left = kMargin + kAxisName + textWidth(lastBlock) + kTick + 8;
  const uint32_t right = kTick + 8 + textWidth(lastFrame) + kAxisName + kMargin;
  // Every large map is a large picture: checked before anything is as large.
  if (map * map > kMaxPixels)
    return Error{fmt::format("a mask of {0} x {0} blocks at {1} pixels a block has {2} pixels, "
                             "wanted at most {3}",
                             mask.blocks, pixelsPerBlock, map * map, kMaxPixels)};

  const uint32_t titleWidth = std::max(uint32_t(map), kLeastTitle);
  const auto legend = legendOf(!mask.tiles, mask.tiles, drawsFrames(shape, scale));
  const std::vector<std::string> title =
      flowedLines({{shape.model, siteName(mask.site)}}, titleWidth);
  const std::vector<std::string> lines =
      flowedLines({siteFacts(mask), shapeFacts(shape)}, titleWidth);

  const uint32_t widest =
      std::max({uint32_t(map) + right, legendWidth(legend) + kMargin, titleWidth + kMargin});
  const uint32_t top = kMargin + kLine * uint32_t(title.size() + lines.size()) + kAxisName +
                       textHeight() + kTick + 12;
  const uint32_t bottom = kTick + 8 + textHeight() + kAxisName;
  MaskPicture picture{
      Canvas(left + widest, top + uint32_t(map) + bottom + kLine + kMargin, colours::kPaper),
      {{mask.site, left, top, uint32_t(map), scale}}};
  Canvas &canvas = picture.canvas;
  const MapPlace &place = picture.maps.front();

  uint32_t y = kMargin;
  for (const std::string &line : title)
    canvas.text(left, y, line, colours::kInk), y += kLine;
  for (const std::string &line : lines)
    canvas.text(left, y, line, colours::kQuiet), y += kLine;

  paintMap(canvas, place, mask, shape);
  AxisPainter axes(canvas, place, shape);
  axes.paintBlocks(mask.blocks);
  if (shape.frameCount())
    axes.paintFrames();
  auto middle = [&](std::string_view word) { return (int64_t(map) - textWidth(word)) / 2; };
  const int64_t end = int64_t(map) + kTick;
  canvas.text(left + middle("key block"), top - kTick - 6 - textHeight() - kAxisName, "key block",
              colours::kInk);
  canvas.textUpwards(kMargin, top + middle("query block"), "query block", colours::kInk);
  if (shape.frameCount()) {
    canvas.text(left + middle("frame"), top + end + 10 + textHeight(), "frame", colours::kInk);
    canvas.textUpwards(left + end + 12 + textWidth(lastFrame), top + middle("frame"), "frame",
                       colours::kInk);
  }
  paintLegend(canvas, left, top + uint32_t(map) + bottom + 8, legend);
  return picture;
}

} // namespace calibatt

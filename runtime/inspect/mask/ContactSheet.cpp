// Layout of contact sheets: labels over maps, in rows of equal places.
#include "runtime/inspect/mask/ContactSheet.h"

#include "runtime/inspect/TextTable.h"
#include "runtime/inspect/mask/PngFile.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>

namespace calibatt {
namespace {

constexpr uint32_t kMargin = 20, kLine = 26, kGap = 20, kLegend = kLine + 8;
constexpr uint32_t kTitleGap = 10, kMostPerBlock = 40;
constexpr uint32_t kLabelLetters = 19; ///< "head 139 repetitive"
constexpr double kWantedAspect = 1.6;

/// Pixels for one map: smaller where there are many.
uint32_t roomFor(uint32_t count) { return count <= 12 ? 320 : count <= 64 ? 256 : 128; }

/// Columns that come nearest to the wanted shape and leave few places empty.
uint32_t columnsFor(uint32_t count, uint32_t width, uint32_t height) {
  uint32_t best = 1;
  double least = INFINITY;
  for (uint32_t columns = 1; columns <= count; ++columns) {
    const uint32_t rows = (count + columns - 1) / columns;
    const double aspect = double(columns) * width / (double(rows) * height);
    const double empty = double(columns) * rows / count - 1;
    const double cost = std::abs(std::log(aspect / kWantedAspect)) + empty;
    if (cost < least)
      least = cost, best = columns;
  }
  return best;
}

uint32_t labelHeight(uint32_t letters) { return 3 * (textHeight(letters) + letters) + 4; }

const char *nounOf(SheetOver over) {
  switch (over) {
  case SheetOver::Layers:
    return "layer";
  case SheetOver::Heads:
    return "head";
  case SheetOver::Steps:
    return "step";
  }
  return "site";
}

/// Title lines, then lines of facts.
struct Title {
  std::vector<std::string> names, facts;
  uint32_t height() const { return kLine * uint32_t(names.size() + facts.size()); }
};

Title titleOf(const VideoShape &shape, SheetOver over, const Site &site, uint32_t count,
              double computed, double keptMass, uint32_t width) {
  std::string where;
  if (over != SheetOver::Layers)
    where += fmt::format("layer {}, ", site.layer);
  if (over != SheetOver::Heads)
    where += fmt::format("head {}, ", site.head);
  if (over != SheetOver::Steps)
    where += fmt::format("step {}, ", site.step);
  return {flowedLines({{shape.model, where + counted(count, nounOf(over))}}, width),
          flowedLines(
              {{"mean computed " + percentage(computed), "mean kept mass " + percentage(keptMass)},
               shapeFacts(shape)},
              width)};
}

} // namespace

Result<ContactSheet> ContactSheet::create(const VideoShape &shape, SheetOver over,
                                          const Site &first, uint32_t count,
                                          uint32_t pixelsPerBlock) {
  const uint32_t room = roomFor(count), blocks = shape.blocks();
  Layout layout;
  layout.scale =
      pixelsPerBlock ? PixelScale{pixelsPerBlock, 1} : scaleToFit(blocks, room, kMostPerBlock);
  layout.letters = room > 128 ? 2 : 1;
  // Wide numbers until it is known that the picture is not too large.
  const uint64_t map =
      pixelsPerBlock ? uint64_t(blocks) * pixelsPerBlock : layout.scale.pixels(blocks);
  const uint64_t label = textWidth(std::string(kLabelLetters, 'x'), layout.letters);
  const uint64_t cell = std::max(map, label) + kGap;
  const uint64_t down = map + labelHeight(layout.letters) + kGap;
  if (map > kMaxPixels || cell * down > kMaxPixels / count)
    return Error{fmt::format("{} of {} x {} pixels are too much for one picture, wanted at most {} "
                             "pixels",
                             counted(count, "mask"), map, map, kMaxPixels)};
  layout.map = uint32_t(map);
  layout.cell = uint32_t(cell);
  layout.down = uint32_t(down);
  layout.columns = columnsFor(count, layout.cell, layout.down);
  const uint32_t rows = (count + layout.columns - 1) / layout.columns;
  const uint32_t inside =
      std::max(layout.columns * layout.cell - kGap, legendWidth(legendOf(true, true, true)));
  layout.top = kMargin + titleOf(shape, over, first, count, 1, 1, inside).height() + kTitleGap;
  Canvas canvas(inside + 2 * kMargin, layout.top + rows * layout.down + kLegend + kMargin,
                colours::kPaper);
  return ContactSheet(shape, over, layout, {std::move(canvas), {}});
}

void ContactSheet::add(const SiteMask &mask) {
  Canvas &canvas = picture.canvas;
  const uint32_t x = kMargin + added % layout.columns * layout.cell;
  uint32_t y = layout.top + added / layout.columns * layout.down;
  const uint32_t number = over == SheetOver::Layers  ? mask.site.layer
                          : over == SheetOver::Heads ? mask.site.head
                                                     : mask.site.step;
  const uint32_t right = x + layout.cell - kGap;
  auto line = [&](const std::string &start, Colour startColour, const std::string &end,
                  Colour endColour) {
    canvas.text(x, y, start, startColour, layout.letters);
    canvas.text(right - textWidth(end, layout.letters), y, end, endColour, layout.letters);
    y += textHeight(layout.letters) + layout.letters;
  };
  line(fmt::format("{} {}", nounOf(over), number), colours::kInk,
       mask.repetitive ? "repetitive" : "", colours::kAnchor);
  line("computed", colours::kQuiet, percentage(mask.computed()), colours::kQuiet);
  line("kept mass", colours::kQuiet, percentage(mask.keptMass), colours::kQuiet);
  const MapPlace place{mask.site, x, y + 4, layout.map, layout.scale};
  paintMap(canvas, place, mask, shape);
  picture.maps.push_back(place);
  ++added;
  repetitive += mask.tiles > 0;
  computed += mask.computed();
  keptMass += mask.keptMass;
}

MaskPicture ContactSheet::finish() {
  Canvas &canvas = picture.canvas;
  const Title title = titleOf(shape, over, picture.maps.front().site, added, computed / added,
                              keptMass / added, canvas.width() - 2 * kMargin);
  uint32_t y = kMargin;
  for (const std::string &line : title.names)
    canvas.text(kMargin, y, line, colours::kInk), y += kLine;
  for (const std::string &line : title.facts)
    canvas.text(kMargin, y, line, colours::kQuiet), y += kLine;
  paintLegend(canvas, kMargin, canvas.height() - kMargin - kLine + 8,
              legendOf(repetitive < added, repetitive > 0, drawsFrames(shape, layout.scale)));
  return std::move(picture);
}

} // namespace calibatt

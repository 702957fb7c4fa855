// Masks as half blocks, braille and shades of ASCII, in a box with frame numbers.
#include "runtime/inspect/mask/MaskText.h"

#include "runtime/inspect/TextTable.h"
#include "runtime/inspect/mask/Coverage.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>

namespace calibatt {
namespace {

/// Columns of the left axis, and with the box.
constexpr uint32_t kAxis = 5, kAround = kAxis + 2;
constexpr uint32_t kMostPixels = 4; ///< a block

/// Pixels of one character, and the scales of both axes.
struct Grid {
  uint32_t across = 1, down = 1;
  PixelScale x, y;
};

uint32_t roomIn(const MaskTextOptions &options) {
  return std::max(options.columns, kAround + 8) - kAround;
}

Grid gridFor(uint32_t blocks, const MaskTextOptions &options) {
  const uint32_t room = roomIn(options);
  switch (options.characters) {
  case MaskCharacters::Halves: {
    const PixelScale scale = scaleToFit(blocks, room, kMostPixels);
    return {1, 2, scale, scale};
  }
  case MaskCharacters::Braille: {
    const PixelScale scale = scaleToFit(blocks, 2 * room, kMostPixels);
    return {2, 4, scale, scale};
  }
  case MaskCharacters::Ascii:
    break;
  }
  // A character is about twice as high as wide. Where every block has one of its
  // own, that is worth more than the shape of the picture.
  Grid grid{1, 1, scaleToFit(blocks, room, kMostPixels), {}};
  if (grid.x.pixelsPerBlock == 3)
    grid.x.pixelsPerBlock = 2;
  grid.y.pixelsPerBlock = std::max(1u, grid.x.pixelsPerBlock / 2);
  grid.y.blocksPerPixel = grid.x.blocksPerPixel > 1 ? 2 * grid.x.blocksPerPixel : 1;
  return grid;
}

void appendUtf8(std::string &text, uint32_t code) {
  text += char(0xE0 | code >> 12);
  text += char(0x80 | (code >> 6 & 0x3F));
  text += char(0x80 | (code & 0x3F));
}

/// Ordered thresholds: of the dots of a half-kept area every second one is set.
bool dotOf(float shade, uint32_t x, uint32_t y) {
  static constexpr uint8_t kOrder[4][4] = {
      {0, 8, 2, 10}, {12, 4, 14, 6}, {3, 11, 1, 9}, {15, 7, 13, 5}};
  return shade * 16 > float(kOrder[y % 4][x % 4]) + 0.5f;
}

/// Shades of a mask by pixel, and one character for each place.
class CharacterPainter {
public:
  CharacterPainter(const SiteMask &mask, const VideoShape &shape, const Grid &grid,
                   MaskCharacters characters)
      : grid(grid), characters(characters), coverage(coverageOf(mask, grid.x, grid.y)),
        anchors(anchorCoverage(mask, shape, grid.y)) {}

  uint32_t width() const { return (coverage.width + grid.across - 1) / grid.across; }
  uint32_t height() const { return (coverage.height + grid.down - 1) / grid.down; }

  bool isEmpty(uint32_t column, uint32_t row) const {
    bool empty = true;
    forPixels(column, row, [&](uint32_t x, uint32_t y) { empty &= coverage.at(x, y) == 0; });
    return empty;
  }

  void append(std::string &text, uint32_t column, uint32_t row) const {
    switch (characters) {
    case MaskCharacters::Halves:
      return appendHalves(text, column, row);
    case MaskCharacters::Braille:
      return appendBraille(text, column, row);
    case MaskCharacters::Ascii:
      text += asciiShade(shade(column, row));
    }
  }

private:
  template <typename Visit> void forPixels(uint32_t column, uint32_t row, Visit visit) const {
    const uint32_t right = std::min(coverage.width, (column + 1) * grid.across);
    const uint32_t bottom = std::min(coverage.height, (row + 1) * grid.down);
    for (uint32_t y = row * grid.down; y < bottom; ++y)
      for (uint32_t x = column * grid.across; x < right; ++x)
        visit(x, y);
  }

  /// A quarter for rows that only copy, so that they stay visible.
  float shade(uint32_t x, uint32_t y) const {
    if (anchors.empty())
      return coverage.at(x, y);
    return anchors[y] == kNoQueries ? 0 : coverage.at(x, y) * (0.25f + 0.75f * anchors[y]);
  }

  static char asciiShade(float shade) {
    static constexpr char kShades[] = ".:=*%@";
    return shade == 0 ? ' ' : shade == 1 ? '#' : kShades[std::min(5, int(shade * 6))];
  }

  void appendHalves(std::string &text, uint32_t column, uint32_t row) const {
    float upper = 0, lower = 0;
    forPixels(column, row, [&](uint32_t x, uint32_t y) { (y % 2 ? lower : upper) = shade(x, y); });
    const bool plain = (upper == 0 || upper == 1) && (lower == 0 || lower == 1);
    if (upper + lower == 0)
      text += ' ';
    else if (plain)
      appendUtf8(text, upper == lower ? 0x2588 : upper > lower ? 0x2580 : 0x2584);
    else // One of three shades, light to dark.
      appendUtf8(text, 0x2591 + uint32_t(std::min(2.f, (upper + lower) * 1.5f)));
  }

  void appendBraille(std::string &text, uint32_t column, uint32_t row) const {
    static constexpr uint8_t kDots[4][2] = {{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}};
    uint32_t dots = 0;
    forPixels(column, row, [&](uint32_t x, uint32_t y) {
      if (dotOf(shade(x, y), x, y))
        dots |= kDots[y % 4][x % 2];
    });
    appendUtf8(text, 0x2800 + dots);
  }

  Grid grid;
  MaskCharacters characters;
  Coverage coverage;
  std::vector<float> anchors;
};

/// [characters] whether a frame begins in the character.
std::vector<bool> frameStarts(const VideoShape &shape, PixelScale scale, uint32_t perCharacter,
                              uint32_t characters) {
  std::vector<bool> starts(characters);
  // Not where every character would be one.
  if (scale.position(shape.frameStart(1)) >= 2 * perCharacter)
    for (uint32_t frame = 1; frame <= shape.frameCount(); ++frame)
      if (const auto at = size_t(scale.position(shape.frameStart(frame)) / perCharacter);
          at < starts.size())
        starts[at] = true;
  return starts;
}

/// The character in the middle of a frame.
uint32_t frameMiddle(const VideoShape &shape, uint32_t frame, PixelScale scale,
                     uint32_t perCharacter) {
  const double middle = (shape.frameStart(frame) + shape.frameStart(frame + 1)) / 2;
  return uint32_t(scale.position(middle) / perCharacter);
}

/// What frames and the box are drawn with.
struct Lines {
  const char *across, *down, *cross;
  const char *top, *left, *right, *bottom; ///< of the box, where a frame begins
  const char *corners[4];
};
constexpr Lines kAscii = {"-", "|", "+", "+", "+", "+", "+", {"+", "+", "+", "+"}};
constexpr Lines kBox = {"─", "│", "┼", "┬", "├", "┤", "┴", {"┌", "┐", "└", "┘"}};

} // namespace

MaskCharacters charactersFor(uint32_t blocks, uint32_t columns) {
  return blocks <= roomIn({MaskCharacters::Halves, columns}) ? MaskCharacters::Halves
                                                             : MaskCharacters::Braille;
}

std::string maskText(const SiteMask &mask, const VideoShape &shape, const MaskTextOptions &options,
                     const TextStyle &style) {
  const Grid grid = gridFor(mask.blocks, options);
  const CharacterPainter painter(mask, shape, grid, options.characters);
  const uint32_t width = painter.width(), height = painter.height();
  const auto acrossFrames = frameStarts(shape, grid.x, grid.across, width);
  const auto downFrames = frameStarts(shape, grid.y, grid.down, height);
  const Lines &lines = options.characters == MaskCharacters::Ascii ? kAscii : kBox;

  // Frame numbers: above every frame that leaves a space to the one before, and
  // in the line of every frame that has one of its own.
  std::string numbers = "frame";
  std::vector<std::string> axis(height);
  for (uint32_t frame = 0; frame < shape.frameCount(); ++frame) {
    const std::string number = std::to_string(frame);
    const size_t middle = kAxis + 1 + frameMiddle(shape, frame, grid.x, grid.across);
    const size_t begin = middle - std::min(middle, (number.size() - 1) / 2);
    if (begin > numbers.size())
      numbers += std::string(begin - numbers.size(), ' ') + number;
    std::string &place = axis[std::min(height - 1, frameMiddle(shape, frame, grid.y, grid.down))];
    if (place.empty() && number.size() < kAxis)
      place = number;
  }
  if (shape.maxText) {
    const double video = shape.frameStart(shape.frameCount());
    const size_t right = kAxis + 1 + size_t(grid.x.position(video)) / grid.across;
    if (right > numbers.size())
      numbers += std::string(right - numbers.size(), ' ') + "text";
    if (std::string &place = axis[height - 1]; place.empty())
      place = "text";
  }

  // The box is notched where a frame begins.
  auto edge = [&](const char *left, const char *notch, const char *right) {
    std::string line(kAxis, ' ');
    line += left;
    for (uint32_t column = 0; column < width; ++column)
      line += acrossFrames[column] ? notch : lines.across;
    line += right;
    return style.dim(line) + "\n";
  };
  std::string text = style.dim(numbers) + "\n";
  text += edge(lines.corners[0], lines.top, lines.corners[1]);
  for (uint32_t row = 0; row < height; ++row) {
    const bool across = downFrames[row];
    text +=
        style.dim(fmt::format("{:>{}} {}", axis[row], kAxis - 1, across ? lines.left : lines.down));
    for (uint32_t column = 0; column < width; ++column) {
      const bool down = acrossFrames[column];
      if ((down || across) && painter.isEmpty(column, row))
        text += style.dim(down && across ? lines.cross : down ? lines.down : lines.across);
      else
        painter.append(text, column, row);
    }
    text += style.dim(across ? lines.right : lines.down) + "\n";
  }
  return text + edge(lines.corners[2], lines.bottom, lines.corners[3]);
}

std::string maskTextLegend(const SiteMask &mask, const MaskTextOptions &options) {
  const Grid grid = gridFor(mask.blocks, options);
  const double across = grid.x.position(1) / grid.across, down = grid.y.position(1) / grid.down;
  std::string text = across < 1 || down < 1
                         ? fmt::format("a character is {:g} x {:g} blocks", 1 / across, 1 / down)
                     : across * down == 1
                         ? "a block is a character"
                         : fmt::format("a block is {:g} x {:g} characters", across, down);
  if (grid.x.blocksPerPixel > 1)
    text += options.characters == MaskCharacters::Ascii ? ", # all kept, darker: more kept"
                                                        : ", darker: more kept";
  return mask.tiles ? text + "; darker: more spatial rows computed, the others are copies" : text;
}

} // namespace calibatt

// A picture in memory: pixels, rectangles, text.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace calibatt {

struct Colour {
  uint8_t red = 0, green = 0, blue = 0;
  bool operator==(const Colour &) const = default;
};

/// Between a (0) and b (1).
Colour mix(Colour a, Colour b, double share);

/// Everything drawn outside of it is cut off.
class Canvas {
public:
  Canvas(uint32_t width, uint32_t height, Colour paper)
      : across(width), down(height), colours(size_t(width) * height, paper) {}

  uint32_t width() const { return across; }
  uint32_t height() const { return down; }
  /// [height, width], top row first.
  const std::vector<Colour> &pixels() const { return colours; }

  void set(int64_t x, int64_t y, Colour colour) {
    if (x >= 0 && y >= 0 && x < across && y < down)
      colours[size_t(y) * across + size_t(x)] = colour;
  }
  void fill(int64_t x, int64_t y, int64_t width, int64_t height, Colour colour);
  /// One pixel wide, outside of the rectangle given.
  void frame(int64_t x, int64_t y, int64_t width, int64_t height, Colour colour);
  /// Letters `scale` times as large as the font; (x, y) is their top left corner.
  void text(int64_t x, int64_t y, std::string_view text, Colour colour, uint32_t scale = 2);
  /// The same, read from the bottom up.
  void textUpwards(int64_t x, int64_t y, std::string_view text, Colour colour, uint32_t scale = 2);

private:
  uint32_t across, down;
  std::vector<Colour> colours;
};

/// Pixels from the first letter's left to the last one's right edge, and from
/// the top of a letter to the end of its descender.
uint32_t textWidth(std::string_view text, uint32_t scale = 2);
uint32_t textHeight(uint32_t scale = 2);

} // namespace calibatt

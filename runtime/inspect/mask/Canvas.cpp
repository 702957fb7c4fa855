// Rectangles, and letters as small rectangles.
#include "runtime/inspect/mask/Canvas.h"

#include "runtime/inspect/mask/PixelFont.h"

#include <cmath>

namespace calibatt {

Colour mix(Colour a, Colour b, double share) {
  auto between = [&](uint8_t from, uint8_t to) {
    return uint8_t(std::lround(from + (double(to) - from) * share));
  };
  return {between(a.red, b.red), between(a.green, b.green), between(a.blue, b.blue)};
}

uint32_t textWidth(std::string_view text, uint32_t scale) {
  const uint32_t letters = uint32_t(text.size());
  return letters ? (letters * kGlyphAdvance - (kGlyphAdvance - kGlyphWidth)) * scale : 0;
}

uint32_t textHeight(uint32_t scale) { return kGlyphHeight * scale; }

void Canvas::fill(int64_t x, int64_t y, int64_t width, int64_t height, Colour colour) {
  for (int64_t row = y; row < y + height; ++row)
    for (int64_t column = x; column < x + width; ++column)
      set(column, row, colour);
}

void Canvas::frame(int64_t x, int64_t y, int64_t width, int64_t height, Colour colour) {
  fill(x - 1, y - 1, width + 2, 1, colour);
  fill(x - 1, y + height, width + 2, 1, colour);
  fill(x - 1, y, 1, height, colour);
  fill(x + width, y, 1, height, colour);
}

/// Calls `ink(x, y)` for every pixel of the font that is set.
template <typename Ink> static void forInk(std::string_view text, Ink ink) {
  for (size_t i = 0; i < text.size(); ++i)
    for (unsigned y = 0; y < kGlyphHeight; ++y)
      for (unsigned x = 0; x < kGlyphWidth; ++x)
        if (glyphPixel(text[i], x, y))
          ink(int64_t(i * kGlyphAdvance + x), int64_t(y));
}

void Canvas::text(int64_t x, int64_t y, std::string_view text, Colour colour, uint32_t scale) {
  forInk(text, [&](int64_t column, int64_t row) {
    fill(x + column * scale, y + row * scale, scale, scale, colour);
  });
}

void Canvas::textUpwards(int64_t x, int64_t y, std::string_view text, Colour colour,
                         uint32_t scale) {
  const int64_t last = int64_t(textWidth(text, scale)) - scale;
  forInk(text, [&](int64_t column, int64_t row) {
    fill(x + row * scale, y + last - column * scale, scale, scale, colour);
  });
}

} // namespace calibatt

// Letters for pictures: 5 pixels wide, 7 above the baseline, 2 below it.
#pragma once

namespace calibatt {

constexpr unsigned kGlyphWidth = 5, kGlyphHeight = 9;
/// From one letter to the next.
constexpr unsigned kGlyphAdvance = 6;

/// Whether a letter is inked at column x from the left, row y from the top.
/// What is not printable ASCII is drawn as a box.
bool glyphPixel(char letter, unsigned x, unsigned y);

} // namespace calibatt

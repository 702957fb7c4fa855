// A mask as characters, for terminals and logs.
#pragma once

#include "runtime/inspect/mask/SiteMask.h"

#include <string>

namespace calibatt {

struct TextStyle;

enum class MaskCharacters : uint8_t {
  Halves,  ///< two pixels a character, one over the other: U+2580 and its kin
  Braille, ///< two by four dots a character
  Ascii,   ///< one shade a character, 7 bits
};

struct MaskTextOptions {
  MaskCharacters characters = MaskCharacters::Ascii;
  uint32_t columns = 80; ///< of the whole picture, axes included
};

/// Lines, each ended: frame numbers above and to the left, the mask in a box.
/// A block is one or more characters' pixels where there is room, else a pixel
/// stands for a square of blocks and is the darker the more of them are kept.
/// Frame boundaries run through characters under which nothing is kept.
/// Rows of repetitive heads are paler the fewer of their queries are anchors'.
std::string maskText(const SiteMask &mask, const VideoShape &shape, const MaskTextOptions &options,
                     const TextStyle &style);
/// One line that says what a character of maskText() stands for.
std::string maskTextLegend(const SiteMask &mask, const MaskTextOptions &options);
/// Halves where every block has a pixel of its own, else braille.
MaskCharacters charactersFor(uint32_t blocks, uint32_t columns);

} // namespace calibatt

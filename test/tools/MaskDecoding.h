// Reads masks back from what `inspect mask` makes, without the code that made it.
#pragma once

#include "calib_profiles/BlockMask.h"

#include <array>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace calibatt::test {

struct DecodedPicture {
  uint32_t width = 0, height = 0;
  std::vector<std::array<uint8_t, 3>> pixels; ///< [height, width] red, green, blue

  const std::array<uint8_t, 3> &at(uint32_t x, uint32_t y) const {
    return pixels[size_t(y) * width + x];
  }
};

/// Fails the test where libpng cannot read it.
DecodedPicture readPng(const std::string &path);

/// The mask at one entry of "maps" of --json, told by how dark its pixels are;
/// fails the test where the pixels of a block disagree.
BlockMask maskOf(const DecodedPicture &picture, const nlohmann::json &map, uint32_t blocks);

/// The code points inside the box of the first mask in a text, line by line,
/// and those of the axis to its left.
struct TextBox {
  std::vector<std::u32string> lines;
  std::vector<std::string> axis;
};
TextBox boxOf(const std::string &text);

} // namespace calibatt::test

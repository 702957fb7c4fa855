#include "test/tools/MaskDecoding.h"

#include <doctest/doctest.h>
#include <png.h>
#include <sstream>

namespace calibatt::test {

DecodedPicture readPng(const std::string &path) {
  png_image image = {};
  image.version = PNG_IMAGE_VERSION;
  REQUIRE_MESSAGE(png_image_begin_read_from_file(&image, path.c_str()), image.message);
  image.format = PNG_FORMAT_RGB;
  DecodedPicture picture{image.width, image.height, {}};
  picture.pixels.resize(size_t(image.width) * image.height);
  REQUIRE_MESSAGE(png_image_finish_read(&image, nullptr, picture.pixels.data(), 0, nullptr),
                  image.message);
  return picture;
}

BlockMask maskOf(const DecodedPicture &picture, const nlohmann::json &map, uint32_t blocks) {
  const uint32_t left = map["x"], top = map["y"], pixels = map["pixels"];
  const uint32_t scale = map["pixels_per_block"];
  REQUIRE(map["blocks_per_pixel"] == 1);
  REQUIRE(pixels == blocks * scale);
  REQUIRE(left + pixels <= picture.width);
  REQUIRE(top + pixels <= picture.height);
  BlockMask mask(blocks, blocks);
  for (uint32_t y = 0; y < pixels; ++y)
    for (uint32_t x = 0; x < pixels; ++x) {
      const auto &[red, green, blue] = picture.at(left + x, top + y);
      const bool kept = (red * 299 + green * 587 + blue * 114) / 1000 < 160;
      if (x % scale == 0 && y % scale == 0)
        mask.set(y / scale, x / scale, kept);
      else
        REQUIRE_MESSAGE(mask.get(y / scale, x / scale) == kept, "pixel ", x, ", ", y);
    }
  return mask;
}

/// Of text known to be UTF-8.
static std::u32string codePoints(const std::string &text) {
  std::u32string result;
  for (char c : text) {
    const auto byte = uint8_t(c);
    if (byte < 0x80)
      result += char32_t(byte);
    else if (byte < 0xC0)
      result.back() = result.back() << 6 | (byte & 0x3F);
    else
      result += char32_t(byte < 0xE0 ? byte & 0x1F : byte < 0xF0 ? byte & 0x0F : byte & 0x07);
  }
  return result;
}

TextBox boxOf(const std::string &text) {
  constexpr size_t kAxis = 5;
  TextBox box;
  std::istringstream in(text);
  int edges = 0;
  for (std::string line; edges < 2 && std::getline(in, line);) {
    const std::u32string points = codePoints(line);
    if (points.size() > kAxis && points.starts_with(U"     ") &&
        (points[kAxis] == U'┌' || points[kAxis] == U'└' ||
         (points[kAxis] == U'+' && points.back() == U'+' &&
          points.find_first_not_of(U"+-", kAxis) == points.npos))) {
      // No row of a mask is empty, so none looks like an edge.
      ++edges;
      continue;
    }
    if (edges == 1) {
      REQUIRE(points.size() > kAxis + 2);
      box.lines.push_back(points.substr(kAxis + 1, points.size() - kAxis - 2));
      box.axis.push_back(line.substr(0, kAxis));
    }
  }
  REQUIRE(edges == 2);
  return box;
}

} // namespace calibatt::test

// Coverage, characters and pictures of random masks, each against a reference
// written anew here.
#include "runtime/inspect/TextTable.h"
#include "runtime/inspect/mask/ContactSheet.h"
#include "runtime/inspect/mask/MaskText.h"
#include "runtime/inspect/mask/PngFile.h"
#include "test/tools/MaskDecoding.h"
#include "test/tools/ToolRun.h"

#include <bit>
#include <doctest/doctest.h>
#include <random>

using namespace calibatt;
using namespace calibatt::test;

namespace {

/// A video of `frames` x 10 x 16 tokens: 1.25 blocks a frame.
VideoShape shapeOf(uint32_t frames) { return {"random", frames, 10, 16}; }

struct RandomMask : SiteMask {
  unsigned seed;
  std::mt19937 random;

  RandomMask(const VideoShape &shape, double density) : seed(std::random_device()()), random(seed) {
    blocks = shape.blocks();
    std::bernoulli_distribution keep(density);
    for (uint32_t row = 0; row < blocks; ++row)
      for (uint32_t column = 0; column < blocks; ++column)
        kept.push_back(row == column || keep(random));
  }
};

/// Whether a character is inked in the sub-cell (x, y) of `across` x `down`.
bool inked(char32_t character, uint32_t x, uint32_t y) {
  static constexpr uint8_t kDots[4][2] = {{0, 3}, {1, 4}, {2, 5}, {6, 7}};
  if (character >= 0x2800 && character < 0x2900)
    return (character - 0x2800) >> kDots[y][x] & 1;
  return character == U'█' || character == U'#' || (character == U'▀' && y == 0) ||
         (character == U'▄' && y == 1);
}

} // namespace

TEST_CASE("coverage is the share of kept blocks under every pixel") {
  const VideoShape shape = shapeOf(47);
  RandomMask mask(shape, 0.3);
  INFO("seed ", mask.seed);
  REQUIRE(mask.blocks == 59);
  for (uint32_t blocksPerPixel : {1, 2, 3, 7, 59, 60}) {
    CAPTURE(blocksPerPixel);
    const PixelScale across{1, blocksPerPixel}, down{1, 2};
    const Coverage coverage = coverageOf(mask, across, down);
    CHECK(coverage.width == (59 + blocksPerPixel - 1) / blocksPerPixel);
    REQUIRE(coverage.height == 30);
    double all = 0;
    for (uint32_t y = 0; y < coverage.height; ++y)
      for (uint32_t x = 0; x < coverage.width; ++x) {
        uint32_t kept = 0, blocks = 0;
        for (uint32_t row = 0; row < 59; ++row)
          for (uint32_t column = 0; column < 59; ++column)
            if (row / 2 == y && column / blocksPerPixel == x)
              kept += mask.at(row, column), ++blocks;
        CHECK(coverage.at(x, y) == doctest::Approx(double(kept) / blocks));
        all += double(coverage.at(x, y)) * blocks;
      }
    CHECK(all == doctest::Approx(mask.density() * 59 * 59));
  }
  const Coverage large = coverageOf(mask, {3, 1}, {2, 1});
  REQUIRE(large.width == 3 * 59);
  REQUIRE(large.height == 2 * 59);
  for (uint32_t y = 0; y < large.height; ++y)
    for (uint32_t x = 0; x < large.width; ++x)
      REQUIRE(large.at(x, y) == float(mask.at(y / 2, x / 3)));
}

TEST_CASE("a scale fits the room and uses it") {
  for (uint32_t blocks : {1, 4, 59, 256, 591})
    for (uint32_t room : {1, 40, 255, 256, 1000})
      for (uint32_t most : {1, 4, 64}) {
        const PixelScale scale = scaleToFit(blocks, room, most);
        CAPTURE(blocks);
        CAPTURE(room);
        CHECK((scale.pixelsPerBlock == 1 || scale.blocksPerPixel == 1));
        CHECK(scale.pixels(blocks) <= room);
        CHECK(scale.pixelsPerBlock <= most);
        if (scale.blocksPerPixel > 1)
          CHECK(PixelScale{1, scale.blocksPerPixel - 1}.pixels(blocks) > room);
        else if (scale.pixelsPerBlock < most)
          CHECK(blocks * (scale.pixelsPerBlock + 1) > room);
      }
}

TEST_CASE("anchor coverage counts the queries in anchor rows, at any scale") {
  const VideoShape shape = shapeOf(7);
  RandomMask mask(shape, 1);
  mask.anchorRows = {2, 7};
  for (PixelScale scale :
       {PixelScale{1, 1}, PixelScale{1, 3}, PixelScale{5, 1}, PixelScale{64, 1}}) {
    const std::vector<float> got = anchorCoverage(mask, shape, scale);
    REQUIRE(got.size() == scale.pixels(mask.blocks));
    const double tokensPerPixel = 128.0 * scale.blocksPerPixel / scale.pixelsPerBlock;
    for (size_t pixel = 0; pixel < got.size(); ++pixel) {
      // Tokens cut into 640 parts: finer than any boundary here.
      uint32_t inside = 0, parts = 0;
      for (uint32_t part = 0; part < 640; ++part) {
        const double token = (double(pixel) + (part + 0.5) / 640) * tokensPerPixel;
        if (token >= double(shape.tokens()))
          continue;
        const auto row = uint32_t(token / 16) % 10;
        inside += row == 2 || row == 7;
        ++parts;
      }
      CAPTURE(pixel);
      CHECK(got[pixel] ==
            doctest::Approx(parts ? double(inside) / parts : kNoQueries).epsilon(0.01));
    }
  }
  mask.anchorRows.clear();
  CHECK(anchorCoverage(mask, shape, {1, 1}).empty());
}

TEST_CASE("characters show exactly the kept blocks where every block has its own") {
  const VideoShape shape = shapeOf(47);
  RandomMask mask(shape, 0.4);
  INFO("seed ", mask.seed);
  struct Kind {
    MaskCharacters characters;
    uint32_t columns, across, down, perBlock;
  };
  for (const Kind &kind :
       {Kind{MaskCharacters::Ascii, 80, 1, 1, 1}, Kind{MaskCharacters::Halves, 80, 1, 2, 1},
        Kind{MaskCharacters::Halves, 200, 1, 2, 3}, Kind{MaskCharacters::Braille, 80, 2, 4, 2},
        Kind{MaskCharacters::Braille, 40, 2, 4, 1}}) {
    CAPTURE(kind.columns);
    const std::string text = maskText(mask, shape, {kind.characters, kind.columns}, TextStyle());
    const TextBox box = boxOf(text);
    const uint32_t pixels = 59 * kind.perBlock;
    REQUIRE(box.lines.size() == (pixels + kind.down - 1) / kind.down);
    for (uint32_t y = 0; y < pixels; ++y)
      for (uint32_t x = 0; x < pixels; ++x) {
        const std::u32string &line = box.lines[y / kind.down];
        REQUIRE(line.size() == (pixels + kind.across - 1) / kind.across);
        REQUIRE_MESSAGE(inked(line[x / kind.across], x % kind.across, y % kind.down) ==
                            mask.at(y / kind.perBlock, x / kind.perBlock),
                        "pixel ", x, ", ", y);
      }
    if (kind.characters == MaskCharacters::Ascii)
      for (char c : text)
        REQUIRE(uint8_t(c) < 0x80);
  }
}

TEST_CASE("scaled characters are darker where more is kept, and fit the width") {
  const VideoShape shape = shapeOf(200); // 250 blocks
  RandomMask mask(shape, 0);
  // Quarters of the mask: none, a third, two thirds, all.
  std::uniform_real_distribution<double> unit;
  for (uint32_t row = 0; row < mask.blocks; ++row)
    for (uint32_t column = 0; column < mask.blocks; ++column)
      mask.kept[row * mask.blocks + column] = unit(mask.random) < column / 63 / 3.0;
  for (uint32_t columns : {20, 47, 80}) {
    const TextBox braille =
        boxOf(maskText(mask, shape, {MaskCharacters::Braille, columns}, TextStyle()));
    const TextBox ascii =
        boxOf(maskText(mask, shape, {MaskCharacters::Ascii, columns}, TextStyle()));
    double dots[4] = {}, shades[4] = {}, cells[4] = {};
    // Without the last line and column, of which only a part is mask.
    for (size_t y = 0; y + 1 < braille.lines.size(); ++y)
      for (size_t x = 0; x + 1 < braille.lines[y].size(); ++x)
        if (const std::u32string &line = braille.lines[y]; line[x] >= 0x2800 && line[x] < 0x2900) {
          dots[x * 4 / line.size()] += std::popcount(uint32_t(line[x] - 0x2800)) / 8.0;
          cells[x * 4 / line.size()] += 1;
        }
    for (const std::u32string &line : ascii.lines) {
      CHECK(line.size() + 7 <= columns);
      for (size_t x = 0; x < line.size(); ++x)
        if (size_t shade = std::u32string(U".:=*%@#").find(line[x]); shade != line.npos)
          shades[x * 4 / line.size()] += double(shade + 1);
    }
    CAPTURE(columns);
    CHECK(dots[0] < dots[1]);
    CHECK(dots[1] / cells[1] == doctest::Approx(1.0 / 3).epsilon(0.25));
    CHECK(dots[2] / cells[2] == doctest::Approx(2.0 / 3).epsilon(0.25));
    CHECK(dots[3] / cells[3] > 0.9);
    for (int quarter = 0; quarter < 3; ++quarter)
      CHECK(shades[quarter] < shades[quarter + 1]);
  }
}

TEST_CASE("frame boundaries run through empty characters and notch the box") {
  const VideoShape shape = shapeOf(4); // 5 blocks, a frame every 1.25
  RandomMask mask(shape, 0);
  const std::string text = maskText(mask, shape, {MaskCharacters::Ascii, 80}, TextStyle());
  CHECK(text == "frame   0    1    2    3\n"
                "     +-----+----+----+----+\n"
                "     |#### |    |    |    |\n"
                "   0 |#### |    |    |    |\n"
                "     +----####--+----+----+\n"
                "   1 |    ####  |    |    |\n"
                "     |     |  ####   |    |\n"
                "     +-----+--####---+----+\n"
                "   2 |     |    | ####    |\n"
                "     +-----+----+-####----+\n"
                "   3 |     |    |    |####|\n"
                "     |     |    |    |####|\n"
                "     +-----+----+----+----+\n");
}

TEST_CASE("rows of repetitive heads are paler than their anchors") {
  const VideoShape shape = shapeOf(4);
  RandomMask mask(shape, 1);
  mask.repetitive = true;
  mask.anchorRows = {0, 1, 2, 3}; // the first half of every frame's tokens is not far from them
  const TextBox box = boxOf(maskText(mask, shape, {MaskCharacters::Ascii, 80}, TextStyle()));
  const std::vector<float> share = anchorCoverage(mask, shape, {2, 1});
  REQUIRE(box.lines.size() == share.size());
  const std::u32string shades = U".:=*%@#";
  for (size_t y = 1; y < share.size(); ++y) {
    CAPTURE(y);
    CHECK(box.lines[y] == std::u32string(box.lines[y].size(), box.lines[y][0]));
    if (share[y] > share[y - 1] + 0.3)
      CHECK(shades.find(box.lines[y][0]) > shades.find(box.lines[y - 1][0]));
  }
}

TEST_CASE("a sheet of masks larger than its places keeps their coverage") {
  const VideoShape shape = shapeOf(500); // 625 blocks: three to a pixel among twenty
  TemporaryFolder folder;
  auto sheet = ContactSheet::create(shape, SheetOver::Heads, {1, 0, 2}, 20);
  REQUIRE_MESSAGE(sheet, sheet.message());
  std::vector<RandomMask> masks;
  for (uint32_t head = 0; head < 20; ++head) {
    masks.emplace_back(shape, head / 19.0);
    masks.back().site = {1, head, 2};
    sheet->add(masks.back());
  }
  const MaskPicture picture = sheet->finish();
  auto bytes = writePng(folder.file("sheet.png"), picture.canvas);
  REQUIRE_MESSAGE(bytes, bytes.message());
  CHECK(*bytes == std::filesystem::file_size(folder.file("sheet.png")));
  const DecodedPicture decoded = readPng(folder.file("sheet.png"));
  REQUIRE(decoded.width == picture.canvas.width());
  REQUIRE(decoded.height == picture.canvas.height());
  REQUIRE(picture.maps.size() == 20);
  for (uint32_t head = 0; head < 20; ++head) {
    const MapPlace &map = picture.maps[head];
    CHECK(map.site.head == head);
    CHECK(map.scale.blocksPerPixel == 3);
    CHECK(map.pixels == 209);
    // No two maps overlap.
    for (uint32_t other = 0; other < head; ++other) {
      const MapPlace &there = picture.maps[other];
      CHECK((map.x >= there.x + there.pixels || there.x >= map.x + map.pixels ||
             map.y >= there.y + there.pixels || there.y >= map.y + map.pixels));
    }
    const Coverage coverage = coverageOf(masks[head], map.scale, map.scale);
    for (uint32_t y = 0; y < map.pixels; ++y)
      for (uint32_t x = 0; x < map.pixels; ++x) {
        // The red of kept is 29, of skipped 243; frames of 0.4 pixels have no lines.
        const double red = decoded.at(map.x + x, map.y + y)[0];
        REQUIRE((243 - red) / (243 - 29) == doctest::Approx(coverage.at(x, y)).epsilon(0.05));
      }
  }
}

TEST_CASE("pictures that would be too large are refused in words") {
  const VideoShape shape = shapeOf(500);
  RandomMask mask(shape, 0);
  auto picture = sitePicture(mask, shape, 256);
  REQUIRE_FALSE(picture);
  CHECK(picture.message() == "a mask of 625 x 625 blocks at 256 pixels a block has 25600000000 "
                             "pixels, wanted at most 67108864");
  auto sheet = ContactSheet::create(shape, SheetOver::Steps, {}, 1000, 4);
  REQUIRE_FALSE(sheet);
  CHECK(sheet.message() == "1,000 masks of 2500 x 2500 pixels are too much for one picture, wanted "
                           "at most 67108864 pixels");
}

TEST_CASE("a picture of more colours than a palette has is written as it is") {
  Canvas canvas(40, 30, {});
  for (uint32_t y = 0; y < 30; ++y)
    for (uint32_t x = 0; x < 40; ++x)
      canvas.set(x, y, {uint8_t(x * 6), uint8_t(y * 8), uint8_t(x * y)});
  TemporaryFolder folder;
  REQUIRE(writePng(folder.file("p.png"), canvas));
  const DecodedPicture decoded = readPng(folder.file("p.png"));
  REQUIRE(decoded.pixels.size() == canvas.pixels().size());
  for (size_t i = 0; i < decoded.pixels.size(); ++i) {
    const Colour &colour = canvas.pixels()[i];
    REQUIRE(decoded.pixels[i] == std::array{colour.red, colour.green, colour.blue});
  }
}

TEST_CASE("long names, no frames and single blocks are drawn without harm") {
  VideoShape shape{std::string(100000, 'm') + "\xff\n", 1, 1, 1};
  RandomMask mask(shape, 1);
  auto picture = sitePicture(mask, shape);
  REQUIRE(picture);
  CHECK(picture->canvas.width() < 1000);
  // What a damaged file may claim: frames that hold no tokens.
  shape = {"text", 0xFFFFFFFF, 0, 0xFFFFFFFF, 1000};
  RandomMask text(shape, 0.5);
  CHECK(sitePicture(text, shape));
  CHECK(boxOf(maskText(text, shape, {}, TextStyle())).lines.size() == 16);
}

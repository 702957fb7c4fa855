// The simplified interface of libpng: no long jumps, one call writes the file.
#include "runtime/inspect/mask/PngFile.h"

#include "runtime/format/AtomicFile.h"

#include <algorithm>
#include <fmt/format.h>
#include <optional>
#include <png.h>
#include <span>
#include <vector>

namespace calibatt {
namespace {

/// Pixels as numbers into a palette in order of first use.
struct Palette {
  std::vector<Colour> colours;
  std::vector<uint8_t> pixels;
};

std::optional<Palette> paletteOf(const Canvas &canvas) {
  Palette palette;
  palette.pixels.reserve(canvas.pixels().size());
  size_t last = 0; // neighbours are mostly alike
  for (const Colour &colour : canvas.pixels()) {
    if (last >= palette.colours.size() || palette.colours[last] != colour) {
      last = size_t(std::find(palette.colours.begin(), palette.colours.end(), colour) -
                    palette.colours.begin());
      if (last == palette.colours.size()) {
        if (last == 256)
          return std::nullopt;
        palette.colours.push_back(colour);
      }
    }
    palette.pixels.push_back(uint8_t(last));
  }
  return palette;
}

} // namespace

Result<uint64_t> writePng(const std::string &path, const Canvas &canvas) {
  auto file = AtomicFile::create(path);
  if (!file)
    return file.takeError();
  static_assert(sizeof(Colour) == 3, "a colour is what libpng takes for one");
  const std::optional<Palette> palette = paletteOf(canvas);
  png_image image = {};
  image.version = PNG_IMAGE_VERSION;
  image.width = canvas.width();
  image.height = canvas.height();
  image.format = palette ? PNG_FORMAT_RGB_COLORMAP : PNG_FORMAT_RGB;
  image.colormap_entries = palette ? png_uint_32(palette->colours.size()) : 0;
  const void *pixels = palette ? static_cast<const void *>(palette->pixels.data())
                               : static_cast<const void *>(canvas.pixels().data());
  const void *colours = palette ? palette->colours.data() : nullptr;

  png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(image);
  std::vector<uint8_t> bytes(size);
  if (!png_image_write_to_memory(&image, bytes.data(), &size, 0, pixels, 0, colours))
    return Error{fmt::format("{}: cannot encode a picture of {} x {} pixels: {}", path,
                             canvas.width(), canvas.height(), image.message)};
  bytes.resize(size);
  if (Status s = file->write(bytes); !s)
    return s.takeError();
  if (Status s = file->commit(); !s)
    return s.takeError();
  return uint64_t(bytes.size());
}

} // namespace calibatt

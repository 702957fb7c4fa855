// Pictures as PNG files.
#pragma once

#include "runtime/format/Result.h"
#include "runtime/inspect/mask/Canvas.h"

#include <cstdint>
#include <string>

namespace calibatt {

/// The most pixels of one picture.
constexpr uint64_t kMaxPixels = uint64_t(1) << 26;

/// Writes the file whole or not at all; with a palette where the picture has at
/// most 256 colours. Equal pictures give equal bytes. Returns the bytes written.
Result<uint64_t> writePng(const std::string &path, const Canvas &canvas);

} // namespace calibatt

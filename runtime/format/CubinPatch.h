// Writes a data image into the built-in schedule symbol of a compiled code
// image, so that the two are one stand-alone cubin or fatbin.
#pragma once

#include "runtime/format/Result.h"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace calibatt {

/// The one cubin (an ELF file) inside an uncompressed fatbin; of a bare cubin
/// all of it. Fails where there is none, more than one, or it is compressed.
/// The bytes are not trusted.
Result<std::span<const uint8_t>> findCubin(std::span<const uint8_t> fatbinOrCubin);

/// Whether a cubin defines a symbol; fails where it is no cubin.
Result<bool> hasSymbol(std::span<const uint8_t> cubin, const std::string &name);

/// Bytes of the symbol CALIBATT_SCHEDULE_SYMBOL. Fails where the cubin has no
/// such symbol or no bytes for it.
Result<uint64_t> symbolCapacity(std::span<const uint8_t> fatbinOrCubin);

/// Overwrites the front of the symbol's bytes with `image`, which must fit;
/// the bytes behind it stay as they are. On an error nothing is changed.
Status patchScheduleSymbol(std::vector<uint8_t> &fatbinOrCubin, std::span<const uint8_t> image);

} // namespace calibatt

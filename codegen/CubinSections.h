// Sizes of the sections of a cubin, which is an ELF file.
#pragma once

#include "runtime/format/Result.h"

#include <cstdint>
#include <span>
#include <string>

namespace calibatt {

/// Bytes of the machine code of a kernel: its section .text.<symbol>, which also
/// holds the functions it calls. Fails where the cubin has none; the bytes are
/// not trusted.
Result<uint32_t> cubinCodeBytes(std::span<const uint8_t> cubin, const std::string &symbol);

} // namespace calibatt

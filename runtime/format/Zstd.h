// zstd frames with Result errors and a size that is known beforehand.
#pragma once

#include "runtime/format/Result.h"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace calibatt {

/// One frame. `longWindow` looks back up to 128 MiB for repeats (pools of
/// similar blobs). Deterministic: one thread, equal input gives equal bytes.
Result<std::vector<uint8_t>> zstdCompress(std::span<const uint8_t> bytes, int level = 12,
                                          bool longWindow = false);
/// That it is exactly one frame which claims to hold `size` bytes, without decoding it.
Status checkZstdFrame(std::span<const uint8_t> frame, uint64_t size, const std::string &where);
/// Decodes exactly one frame of exactly `size` bytes; anything else is an
/// error that begins with `where`. The caller bounds `size`.
Result<std::vector<uint8_t>> zstdDecompress(std::span<const uint8_t> frame, uint64_t size,
                                            const std::string &where);

} // namespace calibatt

// A lowered layer as bytes, for the cache.
#pragma once

#include "compiler/LayerLowering.h"

#include <span>
#include <string>
#include <vector>

namespace calibatt {

/// `madeFrom` says in words what the layer follows from.
Result<std::vector<uint8_t>> encodeLayer(const LoweredLayer &layer, const std::string &madeFrom);
/// Fails where the bytes are not whole, or say that they were made from something else.
Result<LoweredLayer> decodeLayer(std::span<const uint8_t> entry, const std::string &madeFrom);

} // namespace calibatt

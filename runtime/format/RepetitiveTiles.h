// How much of a repetitive head is computed: one rule for profiles, compiler and packages.
#pragma once

#include "runtime/format/AnchorLayout.h"

namespace calibatt {

/// Tiles of 128 queries that a repetitive head computes, `tokens` being those of the video and of
/// at most `maxText` text tokens after it: packed ones, or all where the grid leaves no rows to
/// copy or there may be text.
constexpr unsigned repetitiveTiles(const AnchorGrid &grid, unsigned tokens, unsigned maxText) {
  return maxText == 0 && isValid(grid, tokens) ? packedTiles(grid, tokens) : (tokens + 127) / 128;
}

} // namespace calibatt

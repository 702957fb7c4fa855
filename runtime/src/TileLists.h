// Which CTA of a persistent kernel computes which tiles.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace calibatt {

/// Start and end of a tile that no other work hides, in visits of a key block.
constexpr uint32_t kTileOverheadVisits = 1;

/// Tiles of a launch cut into one list a CTA.
struct TileLists {
  std::vector<uint32_t> work;   ///< packWork words, list after list
  std::vector<uint32_t> begins; ///< lists + 1: where each begins in `work`
};

/// Cuts `work` (in launch order, `visits` of each tile beside it) as a scheduler would that gives
/// the next tile to the first CTA that is free, were every visit equally long: the order is kept,
/// so that tiles that run together read the same keys. At most `ctas` lists, none empty; a tile
/// without visits is left out. Deterministic.
TileLists cutTileLists(std::span<const uint32_t> work, std::span<const uint32_t> visits,
                       uint32_t ctas);

} // namespace calibatt

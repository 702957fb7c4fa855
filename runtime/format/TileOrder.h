// In which order the query tiles of a kernel are launched: a rule that gives it
// from the schedule, so that packages need not store it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace calibatt {

enum class TileOrder : uint32_t {
  Stored = 0,  ///< no rule: the package has the order
  Heads = 1,   ///< head after head, the one with the most visits first; in it longest rows first
  Longest = 2, ///< longest rows first over all heads
};

/// The rows (head * rowsPerHead + row) in launch order. `visits` has the key blocks of every row, 0
/// for one that its head does not have: those come last, because their CTAs end at once. Rows that
/// the rule does not tell apart stay in their order. Not for TileOrder::Stored; at most 65536 rows.
std::vector<uint16_t> orderTiles(TileOrder rule, std::span<const uint32_t> visits,
                                 uint32_t rowsPerHead);

/// Visits of every row of a data image that was checked.
std::vector<uint32_t> rowVisits(std::span<const uint8_t> image);

} // namespace calibatt

// How alike the attention of different spatial rows of a frame is: whether a
// head may compute a few anchor rows and copy the rest.
#pragma once

#include "calib_profiles/Energy.h"
#include "calib_profiles/Profile.h"

#include <cstdint>
#include <span>
#include <vector>

namespace calibatt {

/// Row floor((2i + 1) height / (2 anchors)) for i = 0 .. anchors - 1, ascending,
/// each once (rows coincide where height < anchors).
std::vector<uint32_t> anchorRows(uint32_t height, uint32_t anchors);

/// [height] the anchor row nearest to each row, ties to the lower one.
std::vector<uint32_t> nearestAnchors(uint32_t height, uint32_t anchors);

/// Median, over the rows that are no anchor of all frames, of the cosine between
/// a row's attention (width x tokens, flattened) and its anchor's; the mean of
/// the middle two where their number is even, 0 where every row is an anchor.
/// All in float64. `lse` is that of blockEnergies() for the same input; tokens
/// after the grid's are text, to which rows attend too.
double repetitionScore(const HeadInput &input, const KeyBlocks &keys, std::span<const double> lse,
                       const Grid &grid, uint32_t anchors);

} // namespace calibatt

// Which queries a repetitive head computes, and which tokens each stands for.
// Also compiled for the device (NVRTC): no includes.
//
// A frame is height spatial rows of width tokens; its anchor rows are the only
// ones that are computed. Their queries are packed, frame after frame, into full
// query tiles of 128, whatever the width; every output is stored to the same column
// of all the spatial rows its anchor is the nearest of.
#pragma once

namespace calibatt {

/// The patch grid of a frame and its anchor rows; all zero where no head is repetitive.
struct AnchorGrid {
  unsigned height = 0;  ///< spatial rows a frame
  unsigned width = 0;   ///< tokens a spatial row
  unsigned anchors = 0; ///< anchor rows a frame, fewer than height

  constexpr bool operator==(const AnchorGrid &) const = default;
};

/// Up to here the products of anchorRow() fit 32 bits.
constexpr unsigned kMaxGridHeight = 1u << 15;

/// Whether `tokens` are whole frames of this grid, with rows left to copy.
constexpr bool isValid(const AnchorGrid &grid, unsigned tokens) {
  return grid.anchors >= 1 && grid.anchors < grid.height && grid.height <= tokens &&
         grid.height <= kMaxGridHeight && grid.width >= 1 && grid.width <= tokens / grid.height &&
         tokens % (grid.height * grid.width) == 0;
}

/// Spatial row of anchor i.
constexpr unsigned anchorRow(const AnchorGrid &grid, unsigned i) {
  return (2 * i + 1) * grid.height / (2 * grid.anchors);
}

/// The spatial rows anchor i stands for are anchorBegin(i) to anchorEnd(i) - 1:
/// those nearest to it, ties to the lower anchor.
constexpr unsigned anchorEnd(const AnchorGrid &grid, unsigned i) {
  return i + 1 == grid.anchors ? grid.height
                               : (anchorRow(grid, i) + anchorRow(grid, i + 1)) / 2 + 1;
}
constexpr unsigned anchorBegin(const AnchorGrid &grid, unsigned i) {
  return i == 0 ? 0 : anchorEnd(grid, i - 1);
}

/// The token whose query stands for `token`: in the same column of the anchor row
/// nearest to it.
constexpr unsigned anchorToken(const AnchorGrid &grid, unsigned token) {
  const unsigned row = token / grid.width % grid.height;
  unsigned i = 0;
  while (row >= anchorEnd(grid, i))
    ++i;
  return token - row * grid.width + anchorRow(grid, i) * grid.width;
}

/// Queries a repetitive head computes, and the 128-row tiles that hold them.
constexpr unsigned packedQueries(const AnchorGrid &grid, unsigned tokens) {
  return tokens / grid.height * grid.anchors;
}
constexpr unsigned packedTiles(const AnchorGrid &grid, unsigned tokens) {
  return (packedQueries(grid, tokens) + 127) / 128;
}

/// Where packed query number `index` comes from and goes to.
struct PackedQuery {
  unsigned token;  ///< the query's own
  unsigned first;  ///< token of the first row it stands for; the others follow a width apart
  unsigned copies; ///< rows it stands for
};
constexpr PackedQuery packedQuery(const AnchorGrid &grid, unsigned index) {
  const unsigned strip = grid.anchors * grid.width;
  const unsigned frame = index / strip * grid.height * grid.width;
  const unsigned anchor = index % strip / grid.width, column = index % grid.width;
  const unsigned begin = anchorBegin(grid, anchor);
  return {frame + anchorRow(grid, anchor) * grid.width + column,
          frame + begin * grid.width + column, anchorEnd(grid, anchor) - begin};
}

} // namespace calibatt

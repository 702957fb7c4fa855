// Where the 128-token blocks of a video lie, and how much of a kernel over
// token distances falls into each pair of them.
#pragma once

#include "calib_profiles/Profile.h"

#include <cstdint>
#include <vector>

namespace calibatt {

/// A piece of a block inside one spatial row.
struct RowFragment {
  uint32_t frame, row;
  float column; ///< centre
  float share;  ///< of a block's 128 tokens
};

/// Blocks cut at the ends of spatial rows; [blocks].
std::vector<std::vector<RowFragment>> rowFragments(const Grid &grid, uint32_t blockSize = 128);

/// Decay of attention with the distance along each axis: the product of
/// exp(-|distance| / reach). A reach of infinity does not decay.
struct DistanceKernel {
  double frames, rows, columns;
};

/// The kernel between the fragments of every pair of blocks, each row summing to
/// 1; [blocks, blocks]. Distances are taken between centres of fragments, so the
/// cost is that of blocks, not of tokens.
std::vector<float> kernelEnergies(const Grid &grid,
                                  const std::vector<std::vector<RowFragment>> &fragments,
                                  const DistanceKernel &kernel);

} // namespace calibatt

// Cosines between attention rows, streamed over key blocks: probabilities come
// from the known log-sum-exp, so that no attention row is ever stored.
#include "calib_profiles/Repetition.h"

#include <algorithm>
#include <cassert>
#include <cmath>

namespace calibatt {

std::vector<uint32_t> anchorRows(uint32_t height, uint32_t anchors) {
  std::vector<uint32_t> rows;
  for (uint64_t i = 0; i < anchors; ++i) {
    const uint32_t row = uint32_t((2 * i + 1) * height / (2 * uint64_t(anchors)));
    if (rows.empty() || rows.back() != row)
      rows.push_back(row);
  }
  return rows;
}

std::vector<uint32_t> nearestAnchors(uint32_t height, uint32_t anchors) {
  const std::vector<uint32_t> rows = anchorRows(height, anchors);
  auto distance = [](uint32_t a, uint32_t b) { return a > b ? a - b : b - a; };
  std::vector<uint32_t> nearest(height);
  for (uint32_t y = 0; y < height; ++y)
    nearest[y] = *std::min_element(rows.begin(), rows.end(), [&](uint32_t a, uint32_t b) {
      return distance(a, y) < distance(b, y);
    });
  return nearest;
}

namespace {

/// Inner products of one anchor row with the rows it stands for.
struct Products {
  double anchorSquare = 0;
  std::vector<double> square, cross; // one a row
};

double median(std::vector<double> values) {
  if (values.empty())
    return 0;
  auto middle = values.begin() + values.size() / 2;
  std::nth_element(values.begin(), middle, values.end());
  if (values.size() % 2)
    return *middle;
  return (*middle + *std::max_element(values.begin(), middle)) / 2;
}

} // namespace

double repetitionScore(const HeadInput &input, const KeyBlocks &keys, std::span<const double> lse,
                       const Grid &grid, uint32_t anchors) {
  assert(grid.tokens() <= input.tokens && lse.size() == input.tokens);
  const std::vector<uint32_t> nearest = nearestAnchors(grid.height, anchors);
  double anchorRow[KeyBlocks::kBlock], row[KeyBlocks::kBlock];
  auto probabilities = [&](uint64_t token, uint32_t block, double *out) {
    keys.logits(input.q.data() + token * input.headDim, block, out);
    for (uint32_t j = 0; j < keys.keys(block); ++j)
      out[j] = std::exp(out[j] - lse[token]);
  };

  std::vector<double> cosines;
  for (uint32_t frame = 0; frame < grid.frames; ++frame)
    for (uint32_t anchor : anchorRows(grid.height, anchors)) {
      std::vector<uint32_t> followers;
      for (uint32_t y = 0; y < grid.height; ++y)
        if (y != anchor && nearest[y] == anchor)
          followers.push_back(y);
      if (followers.empty())
        continue;
      Products p{0, std::vector<double>(followers.size()), std::vector<double>(followers.size())};
      const uint64_t frameStart = uint64_t(frame) * grid.height * grid.width;
      for (uint32_t x = 0; x < grid.width; ++x)
        for (uint32_t b = 0; b < keys.blocks(); ++b) {
          probabilities(frameStart + uint64_t(anchor) * grid.width + x, b, anchorRow);
          for (uint32_t j = 0; j < keys.keys(b); ++j)
            p.anchorSquare += anchorRow[j] * anchorRow[j];
          for (size_t i = 0; i < followers.size(); ++i) {
            probabilities(frameStart + uint64_t(followers[i]) * grid.width + x, b, row);
            for (uint32_t j = 0; j < keys.keys(b); ++j) {
              p.square[i] += row[j] * row[j];
              p.cross[i] += row[j] * anchorRow[j];
            }
          }
        }
      for (size_t i = 0; i < followers.size(); ++i)
        cosines.push_back(p.cross[i] / std::sqrt(p.anchorSquare * p.square[i]));
    }
  return median(std::move(cosines));
}

} // namespace calibatt

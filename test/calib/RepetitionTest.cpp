// Anchor rows and repetition scores.
#include "calib_profiles/Repetition.h"
#include "test/calib/RandomInputs.h"

#include <doctest/doctest.h>

#include <algorithm>

using namespace calibatt;
using namespace calibatt::test;

TEST_CASE("anchor rows are equidistant and rows belong to the nearest, ties to the lower") {
  CHECK(anchorRows(30, 5) == std::vector<uint32_t>{3, 9, 15, 21, 27});
  CHECK(anchorRows(45, 5) == std::vector<uint32_t>{4, 13, 22, 31, 40});
  CHECK(anchorRows(7, 5) == std::vector<uint32_t>{0, 2, 3, 4, 6});
  CHECK(anchorRows(3, 5) == std::vector<uint32_t>{0, 1, 2});
  CHECK(anchorRows(1, 5) == std::vector<uint32_t>{0});
  // Row 6 is as far from 3 as from 9, row 1 of seven as far from 0 as from 2.
  CHECK(nearestAnchors(30, 5)[6] == 3);
  CHECK(nearestAnchors(30, 5)[7] == 9);
  CHECK(nearestAnchors(7, 5) == std::vector<uint32_t>{0, 0, 2, 3, 4, 4, 6});
}

namespace {

/// The definition on the full matrix.
double naiveScore(const std::vector<std::vector<double>> &p, const Grid &grid, uint32_t anchors) {
  std::vector<double> cosines;
  for (uint32_t f = 0; f < grid.frames; ++f)
    for (uint32_t y = 0; y < grid.height; ++y) {
      uint32_t best = 0;
      int distance = 1 << 20;
      bool isAnchor = false;
      for (uint32_t i = 0; i < anchors; ++i) {
        const uint32_t a = (2 * i + 1) * grid.height / (2 * anchors);
        isAnchor |= a == y;
        if (std::abs(int(a) - int(y)) < distance) {
          distance = std::abs(int(a) - int(y));
          best = a;
        }
      }
      if (isAnchor)
        continue;
      double cross = 0, own = 0, anchor = 0;
      for (uint32_t x = 0; x < grid.width; ++x) {
        const auto &u = p[(f * grid.height + y) * grid.width + x];
        const auto &v = p[(f * grid.height + best) * grid.width + x];
        for (size_t j = 0; j < u.size(); ++j) {
          cross += u[j] * v[j];
          own += u[j] * u[j];
          anchor += v[j] * v[j];
        }
      }
      cosines.push_back(cross / std::sqrt(own * anchor));
    }
  if (cosines.empty())
    return 0;
  std::sort(cosines.begin(), cosines.end());
  const size_t n = cosines.size();
  return n % 2 ? cosines[n / 2] : (cosines[n / 2 - 1] + cosines[n / 2]) / 2;
}

} // namespace

TEST_CASE("the repetition score is the median cosine over the full attention matrix") {
  const uint64_t seed = freshSeed();
  CAPTURE(seed);
  for (Grid grid : {Grid{3, 7, 20}, Grid{2, 11, 9}, Grid{1, 9, 15}, Grid{4, 10, 14}}) {
    const RandomHead head(grid.tokens(), 64, seed, 1);
    const KeyBlocks keys(head.input());
    const BlockEnergies energies = blockEnergies(head.input(), keys);
    const auto p = head.attention();
    for (uint32_t anchors : {1u, 2u, 5u})
      CHECK(repetitionScore(head.input(), keys, energies.lse, grid, anchors) ==
            doctest::Approx(naiveScore(p, grid, anchors)).epsilon(1e-9));
  }
}

TEST_CASE("rows that attend alike score one, and a frame of anchors only scores zero") {
  const Grid grid{2, 8, 6};
  RandomHead head(grid.tokens(), 64, freshSeed());
  for (uint64_t token = 0; token < head.tokens; ++token) { // every row has the queries of row 0
    const uint64_t source = token / 48 * 48 + token % 6;
    std::copy_n(head.q.begin() + source * 64, 64, head.q.begin() + token * 64);
  }
  const KeyBlocks keys(head.input());
  const BlockEnergies energies = blockEnergies(head.input(), keys);
  CHECK(repetitionScore(head.input(), keys, energies.lse, grid, 5) == doctest::Approx(1));
  CHECK(repetitionScore(head.input(), keys, energies.lse, grid, 8) == 0);
}

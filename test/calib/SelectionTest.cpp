// Minimum covers and votes.
#include "calib_profiles/Selection.h"
#include "test/calib/RandomInputs.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <numeric>

using namespace calibatt;
using namespace calibatt::test;

namespace {

/// The definition: sort, add up, cut.
std::vector<bool> naiveCover(const std::vector<float> &row, double epsilon) {
  std::vector<uint32_t> order(row.size());
  std::iota(order.begin(), order.end(), 0u);
  std::sort(order.begin(), order.end(),
            [&](uint32_t a, uint32_t b) { return row[a] > row[b] || (row[a] == row[b] && a < b); });
  double total = 0, prefix = 0;
  for (float e : row)
    total += e;
  std::vector<bool> kept(row.size());
  for (uint32_t c : order) {
    kept[c] = true;
    prefix += row[c];
    if (prefix >= epsilon * total)
      break;
  }
  return kept;
}

std::vector<bool> cover(const std::vector<float> &row, double epsilon) {
  const RowCover cover = minimumCover(row, epsilon);
  std::vector<bool> kept(row.size());
  for (uint32_t c = 0; c < row.size(); ++c)
    kept[c] = cover.keeps(row[c], c);
  return kept;
}

/// Rows of very different shape: flat, peaked, heavy-tailed, with zeros.
std::vector<float> randomRow(uint32_t blocks, std::mt19937_64 &random) {
  std::normal_distribution<double> normal;
  const double spread = std::array{0.0, 0.3, 2.0, 8.0}[random() % 4];
  std::vector<float> row(blocks);
  double total = 0;
  for (float &e : row)
    total += e = random() % 50 ? float(std::exp(spread * normal(random))) : 0.0f;
  row[random() % blocks] += 1e-3f;
  for (float &e : row)
    e = float(e / (total + 1e-3));
  return row;
}

} // namespace

TEST_CASE("a cover is what sorting and adding up gives") {
  const uint64_t seed = freshSeed();
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  for (uint32_t blocks : {1u, 2u, 4u, 5u, 256u, 591u, 931u})
    for (int repeat = 0; repeat < 200; ++repeat) {
      const std::vector<float> row = randomRow(blocks, random);
      for (double epsilon : {0.0, 0.5, 0.763, 0.842, 0.903, 0.99, 0.999999, 1.0})
        REQUIRE(cover(row, epsilon) == naiveCover(row, epsilon));
    }
}

TEST_CASE("ties go to the lower column, also where sums land on the target exactly") {
  CHECK(cover({0.25f, 0.25f, 0.25f, 0.25f}, 0.5) == std::vector<bool>{true, true, false, false});
  CHECK(cover({0.25f, 0.25f, 0.25f, 0.25f}, 0.51) == std::vector<bool>{true, true, true, false});
  CHECK(cover({0.125f, 0.5f, 0.125f, 0.25f}, 0.875) == std::vector<bool>{true, true, false, true});
  CHECK(cover({0.125f, 0.5f, 0.125f, 0.25f}, 0.5) == std::vector<bool>{false, true, false, false});
  CHECK(cover({0, 0, 0}, 0.9) == std::vector<bool>{true, false, false});
  std::mt19937_64 random(freshSeed());
  for (int repeat = 0; repeat < 300; ++repeat) { // few values, many ties
    std::vector<float> row(37);
    for (float &e : row)
      e = float(1 + random() % 4) / 16;
    for (double epsilon : {0.25, 0.5, 0.75, 0.842})
      REQUIRE(cover(row, epsilon) == naiveCover(row, epsilon));
  }
}

TEST_CASE("a cover is minimal, and a higher epsilon never drops a block") {
  const uint64_t seed = freshSeed();
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  for (int repeat = 0; repeat < 100; ++repeat) {
    const std::vector<float> row = randomRow(256, random);
    const double total = std::accumulate(row.begin(), row.end(), 0.0);
    std::vector<bool> before(row.size());
    for (double epsilon : {0.3, 0.6, 0.8, 0.85, 0.9, 0.95, 0.99}) {
      const std::vector<bool> kept = cover(row, epsilon);
      double sum = 0, smallest = 2;
      for (size_t c = 0; c < row.size(); ++c) {
        CHECK((!before[c] || kept[c]));
        if (kept[c]) {
          sum += row[c];
          smallest = std::min<double>(smallest, row[c]);
        }
      }
      CHECK(sum >= epsilon * total * (1 - 1e-12));
      CHECK(sum - smallest < epsilon * total * (1 + 1e-12));
      before = kept;
    }
  }
}

TEST_CASE("a vote keeps what enough prompts kept, the diagonal and the best block") {
  const uint64_t seed = freshSeed();
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  for (auto [tokens, prompts] : {std::pair{420u, 3u}, {560u, 1u}, {131u, 8u}, {3000u, 5u}}) {
    const uint32_t blocks = (tokens + 127) / 128;
    SiteVote vote(tokens);
    std::vector<std::vector<float>> all; // [prompts][blocks * blocks]
    std::vector<uint32_t> counts(blocks * blocks);
    std::vector<double> sums(blocks * blocks);
    for (uint32_t p = 0; p < prompts; ++p) {
      all.emplace_back();
      for (uint32_t r = 0; r < blocks; ++r) {
        const std::vector<float> row = randomRow(blocks, random);
        const std::vector<bool> kept = naiveCover(row, 0.8);
        for (uint32_t c = 0; c < blocks; ++c) {
          counts[r * blocks + c] += kept[c] || c == r;
          sums[r * blocks + c] += row[c];
        }
        all.back().insert(all.back().end(), row.begin(), row.end());
      }
      vote.add(all.back(), 0.8);
    }
    CHECK(vote.prompts() == prompts);
    CHECK(std::equal(counts.begin(), counts.end(), vote.counts().begin()));
    for (double rho : {0.01, 0.5, 0.6, 1.0}) {
      const BlockMask mask = vote.mask(rho);
      double mass = 0;
      for (uint32_t r = 0; r < blocks; ++r) {
        uint32_t best = 0;
        double kept = 0, total = 0;
        for (uint32_t c = 0; c < blocks; ++c)
          if (sums[r * blocks + c] > sums[r * blocks + best])
            best = c;
        for (uint32_t c = 0; c < blocks; ++c) {
          const bool wanted = counts[r * blocks + c] >= rho * prompts || c == r || c == best;
          CHECK(mask.get(r, c) == wanted);
          total += sums[r * blocks + c];
          kept += wanted ? sums[r * blocks + c] : 0;
        }
        mass += kept / total * std::min(128u, tokens - r * 128) / tokens;
      }
      // Energies are added up in whole units, each off by at most 2^-12 of it.
      CHECK(vote.keptMass(mask) == doctest::Approx(mass).epsilon(0x1p-12));
    }
    CHECK(vote.keptMass(BlockMask::dense(blocks, blocks)) == doctest::Approx(1));
    vote.clear();
    vote.add(all[0], 0.8);
    CHECK(vote.prompts() == 1);
    CHECK(*std::max_element(vote.counts().begin(), vote.counts().end()) == 1);
  }
}

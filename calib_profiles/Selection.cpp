// Minimum covers and votes. Covers are found by bucketing energies by their
// leading bits, which needs a sort of one bucket only; where rounding of the sums
// could change the answer the row is sorted whole, so that the result is always that of the
// definition.
#include "calib_profiles/Selection.h"
#include "calib_profiles/EnergyUnits.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>

namespace calibatt {

namespace {

struct Candidate {
  float energy;
  uint32_t column;
};

bool before(const Candidate &a, const Candidate &b) {
  return a.energy != b.energy ? a.energy > b.energy : a.column < b.column;
}

/// The definition, word for word.
RowCover coverBySorting(std::span<const float> energies, double epsilon) {
  std::vector<Candidate> sorted(energies.size());
  double total = 0;
  for (uint32_t c = 0; c < energies.size(); ++c) {
    sorted[c] = {energies[c], c};
    total += energies[c];
  }
  std::sort(sorted.begin(), sorted.end(), before);
  double prefix = 0;
  for (const Candidate &candidate : sorted) {
    prefix += candidate.energy;
    if (prefix >= epsilon * total)
      return {candidate.energy, candidate.column};
  }
  return {sorted.back().energy, sorted.back().column};
}

// Eight buckets an octave: sixteen octaves below the row's maximum, the last
// bucket takes the rest.
constexpr uint32_t kBucketShift = 20;
constexpr uint32_t kBuckets = 128;
// Rounding of a float64 sum of up to 4096 terms stays below 2^12 * 2^-53 of it;
// anything nearer to the target than this is left to coverBySorting.
constexpr double kRoundingMargin = 1e-11;

} // namespace

RowCover minimumCover(std::span<const float> energies, double epsilon) {
  assert(!energies.empty());
  const uint32_t n = uint32_t(energies.size());
  constexpr uint32_t kMostColumns = 4096;
  if (n > kMostColumns)
    return coverBySorting(energies, epsilon);

  // Non-negative floats are ordered as their bits.
  uint32_t largest = 0;
  for (float e : energies)
    largest = std::max(largest, std::bit_cast<uint32_t>(e));
  const int32_t top = int32_t(largest >> kBucketShift);

  std::array<double, kBuckets> sums{};
  std::array<uint8_t, kMostColumns> bucketOf;
  for (uint32_t c = 0; c < n; ++c) {
    int32_t below = top - int32_t(std::bit_cast<uint32_t>(energies[c]) >> kBucketShift);
    uint32_t bucket = std::min<uint32_t>(uint32_t(below), kBuckets - 1);
    bucketOf[c] = uint8_t(bucket);
    sums[bucket] += energies[c];
  }
  double total = 0;
  for (double sum : sums)
    total += sum;

  const double target = epsilon * total, margin = kRoundingMargin * total;
  double prefix = 0;
  uint32_t cut = 0;
  while (cut < kBuckets && prefix + sums[cut] < target)
    prefix += sums[cut++];
  if (cut == kBuckets || prefix + margin >= target)
    return coverBySorting(energies, epsilon);

  std::array<Candidate, kMostColumns> bucket;
  uint32_t size = 0;
  for (uint32_t c = 0; c < n; ++c) {
    bucket[size] = {energies[c], c};
    size += bucketOf[c] == cut;
  }
  std::sort(bucket.begin(), bucket.begin() + size, before);
  for (uint32_t i = 0; i < size; ++i) {
    const double next = prefix + bucket[i].energy;
    if (next >= target - margin) {
      if (next <= target + margin || prefix >= target - margin)
        break;
      return {bucket[i].energy, bucket[i].column};
    }
    prefix = next;
  }
  return coverBySorting(energies, epsilon);
}

SiteCounts SiteCounts::empty(uint64_t tokens, uint64_t text) {
  constexpr uint64_t kBlock = 128;
  SiteCounts site;
  site.blocks = uint32_t((tokens + kBlock - 1) / kBlock);
  site.tokens = tokens;
  site.textBlock = firstTextBlock(tokens, text);
  site.counts.resize(size_t(site.blocks) * site.blocks);
  site.energySums.resize(size_t(site.blocks) * site.blocks);
  return site;
}

uint32_t SiteCounts::bestColumn(uint32_t row) const {
  if (!best.empty())
    return best[row];
  const uint32_t *sums = energySums.data() + size_t(row) * blocks;
  return uint32_t(std::max_element(sums, sums + blocks) - sums);
}

uint32_t SiteCounts::threshold(double rho) const {
  const double needed = rho * prompts;
  uint32_t count = 0;
  while (count < needed)
    ++count;
  return count;
}

void SiteCounts::keepAlways(BlockMask &mask) const {
  for (uint32_t r = 0; r < blocks; ++r) {
    mask.set(r, r);
    mask.set(r, bestColumn(r));
    for (uint32_t c = r < textBlock ? textBlock : 0; c < blocks; ++c)
      mask.set(r, c);
  }
}

BlockMask SiteCounts::mask(double rho) const {
  assert(prompts > 0);
  BlockMask mask(blocks, blocks);
  const uint32_t enough = threshold(rho);
  for (uint32_t r = 0; r < blocks; ++r) {
    const uint8_t *row = counts.data() + size_t(r) * blocks;
    uint8_t *bytes = mask.bytes().data() + r * BlockMask::rowBytes(blocks);
    for (uint32_t c = 0; c < blocks; ++c)
      bytes[c / 8] |= uint8_t((row[c] >= enough) << (c % 8));
  }
  keepAlways(mask);
  return mask;
}

double SiteCounts::keptMass(const BlockMask &mask) const {
  double mass = 0;
  for (uint32_t r = 0; r < blocks; ++r) {
    // Whole numbers: the order of the additions does not matter.
    uint64_t kept = 0, total = 0;
    for (uint32_t c = 0; c < blocks; ++c) {
      const uint64_t energy = energySums[size_t(r) * blocks + c];
      total += energy;
      kept += mask.get(r, c) ? energy : 0;
    }
    const uint64_t queries = std::min<uint64_t>(128, tokens - uint64_t(r) * 128);
    mass += double(queries) * (total > 0 ? double(kept) / double(total) : 1);
  }
  return std::min(1.0, mass / double(tokens));
}

BlockMask promptCover(std::span<const float> energies, uint32_t blocks, uint32_t textBlock,
                      double epsilon) {
  BlockMask mask(blocks, blocks);
  for (uint32_t r = 0; r < textBlock; ++r) {
    const std::span<const float> row = energies.subspan(size_t(r) * blocks, blocks);
    const RowCover cover = minimumCover(row, epsilon);
    uint8_t *bytes = mask.bytes().data() + r * BlockMask::rowBytes(blocks);
    for (uint32_t c = 0; c < blocks; ++c)
      bytes[c / 8] |= uint8_t(cover.keeps(row[c], c) << (c % 8));
    mask.set(r, r);
    for (uint32_t c = textBlock; c < blocks; ++c)
      mask.set(r, c);
  }
  for (uint32_t r = textBlock; r < blocks; ++r)
    for (uint32_t c = 0; c < blocks; ++c)
      mask.set(r, c);
  return mask;
}

void SiteVote::clear() {
  site.prompts = 0;
  std::fill(site.counts.begin(), site.counts.end(), uint8_t(0));
  std::fill(site.energySums.begin(), site.energySums.end(), 0u);
}

void SiteVote::add(std::span<const float> energies, double epsilon) {
  assert(energies.size() == site.counts.size() && site.prompts < kMaxPrompts);
  ++site.prompts;
  const uint32_t blocks = site.blocks;
  for (uint32_t r = 0; r < blocks; ++r) {
    std::span<const float> row = energies.subspan(size_t(r) * blocks, blocks);
    uint8_t *counts = site.counts.data() + size_t(r) * blocks;
    uint32_t *sums = site.energySums.data() + size_t(r) * blocks;
    const RowCover cover = minimumCover(row, epsilon);
    const uint8_t diagonal = uint8_t(counts[r] + 1);
    // Loops without a branch each, which the compiler vectorises.
    for (uint32_t c = 0; c < blocks; ++c)
      counts[c] = uint8_t(counts[c] + (row[c] > cover.energy));
    for (uint32_t c = 0; c <= cover.lastColumn; ++c)
      counts[c] = uint8_t(counts[c] + (row[c] == cover.energy));
    for (uint32_t c = 0; c < blocks; ++c)
      sums[c] += energyUnits(row[c]);
    counts[r] = diagonal;
  }
}

} // namespace calibatt

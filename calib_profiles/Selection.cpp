// Minimum covers and votes. Covers are found by bucketing energies by their
// leading bits, which needs a sort of one bucket only; where rounding of the sums
// could change the answer the row is sorted whole, so that the result is always that of the
// definition.
#include "calib_profiles/Selection.h"

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

SiteVote::SiteVote(uint64_t tokens, uint32_t blockSize)
    : tokens(tokens), blockSize(blockSize),
      numBlocks(uint32_t((tokens + blockSize - 1) / blockSize)),
      keepCounts(size_t(numBlocks) * numBlocks), energySums(size_t(numBlocks) * numBlocks) {}

void SiteVote::clear() {
  numPrompts = 0;
  std::fill(keepCounts.begin(), keepCounts.end(), uint8_t(0));
  std::fill(energySums.begin(), energySums.end(), 0.0);
}

void SiteVote::add(std::span<const float> energies, double epsilon) {
  assert(energies.size() == keepCounts.size() && numPrompts < kMaxPrompts);
  ++numPrompts;
  for (uint32_t r = 0; r < numBlocks; ++r) {
    std::span<const float> row = energies.subspan(size_t(r) * numBlocks, numBlocks);
    uint8_t *counts = keepCounts.data() + size_t(r) * numBlocks;
    double *sums = energySums.data() + size_t(r) * numBlocks;
    const RowCover cover = minimumCover(row, epsilon);
    const uint8_t diagonal = uint8_t(counts[r] + 1);
    // Two loops without a branch each, which the compiler vectorises.
    for (uint32_t c = 0; c < numBlocks; ++c)
      counts[c] = uint8_t(counts[c] + (row[c] > cover.energy));
    for (uint32_t c = 0; c <= cover.lastColumn; ++c)
      counts[c] = uint8_t(counts[c] + (row[c] == cover.energy));
    for (uint32_t c = 0; c < numBlocks; ++c)
      sums[c] += row[c];
    counts[r] = diagonal;
  }
}

BlockMask SiteVote::mask(double rho) const {
  assert(numPrompts > 0);
  BlockMask mask(numBlocks, numBlocks);
  const double needed = rho * numPrompts;
  uint32_t threshold = 0; // the smallest count that is enough
  while (threshold < needed)
    ++threshold;
  for (uint32_t r = 0; r < numBlocks; ++r) {
    const uint8_t *counts = keepCounts.data() + size_t(r) * numBlocks;
    const double *sums = energySums.data() + size_t(r) * numBlocks;
    uint8_t *bytes = mask.bytes().data() + r * BlockMask::rowBytes(numBlocks);
    for (uint32_t c = 0; c < numBlocks; ++c)
      bytes[c / 8] |= uint8_t((counts[c] >= threshold) << (c % 8));
    mask.set(r, r);
    mask.set(r, uint32_t(std::max_element(sums, sums + numBlocks) - sums));
  }
  return mask;
}

double SiteVote::keptMass(const BlockMask &mask) const {
  double mass = 0;
  for (uint32_t r = 0; r < numBlocks; ++r) {
    double kept = 0, total = 0;
    for (uint32_t c = 0; c < numBlocks; ++c) {
      const double energy = energySums[size_t(r) * numBlocks + c];
      total += energy;
      kept += mask.get(r, c) ? energy : 0;
    }
    const uint64_t queries = std::min<uint64_t>(blockSize, tokens - uint64_t(r) * blockSize);
    mass += double(queries) * (total > 0 ? kept / total : 1);
  }
  return std::min(1.0, mass / double(tokens));
}

} // namespace calibatt

// From block energies to a mask: a minimum cover a row and prompt, then a vote.
#pragma once

#include "calib_profiles/BlockMask.h"

#include <cstdint>
#include <span>
#include <vector>

namespace calibatt {

/// The kept set of one row: every block above `energy`, and those equal to it up
/// to column `lastColumn` (ties go to the lower column).
struct RowCover {
  float energy = 0;
  uint32_t lastColumn = 0;

  bool keeps(float e, uint32_t column) const {
    return e > energy || (e == energy && column <= lastColumn);
  }
};

/// The fewest blocks whose energies, largest first, sum up to at least epsilon
/// times the row's own sum; at least one. Sums are float64. Energies are finite
/// and not negative; the row is not empty.
RowCover minimumCover(std::span<const float> energies, double epsilon);

/// Votes on the blocks of one site over prompts. Square: queries and keys have
/// the same blocks of `blockSize` tokens.
class SiteVote {
public:
  static constexpr uint32_t kMaxPrompts = 255; ///< counts are uint8

  explicit SiteVote(uint64_t tokens, uint32_t blockSize = 128);

  /// Forgets all prompts.
  void clear();
  /// One prompt's energies, [blocks, blocks] row-major; at most kMaxPrompts times.
  void add(std::span<const float> energies, double epsilon);

  uint32_t blocks() const { return numBlocks; }
  uint32_t prompts() const { return numPrompts; }
  /// How many prompts kept each block, [blocks, blocks]. The diagonal block always counts.
  std::span<const uint8_t> counts() const { return keepCounts; }

  /// Blocks that at least rho of the prompts kept, and always the diagonal block
  /// and the one of the highest mean energy (ties: lower column). Needs a prompt.
  BlockMask mask(double rho) const;
  /// Share of the attention inside `mask`, mean over prompts and queries.
  double keptMass(const BlockMask &mask) const;

private:
  uint64_t tokens;
  uint32_t blockSize, numBlocks, numPrompts = 0;
  std::vector<uint8_t> keepCounts;
  std::vector<double> energySums; // over prompts
};

} // namespace calibatt

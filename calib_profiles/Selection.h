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

/// The first block with text positions, which end the `tokens`; the number of blocks
/// where there is no text.
inline uint32_t firstTextBlock(uint64_t tokens, uint64_t text) {
  return uint32_t(text ? (tokens - text) / 128 : (tokens + 127) / 128);
}

/// What the prompts of one site amount to. Square: queries and keys have the same
/// blocks of 128 tokens.
struct SiteCounts {
  static constexpr uint32_t kMaxPrompts = 255; ///< counts are uint8

  uint32_t blocks = 0;
  uint32_t prompts = 0;
  uint64_t tokens = 0; ///< text included; what the rows of the last block are short of
  /// First block with text positions: it and all later ones are kept in every row,
  /// and are dense as rows. `blocks` where there is none.
  uint32_t textBlock = 0;
  std::vector<uint8_t> counts;      ///< [blocks, blocks] prompts that kept the block
  std::vector<uint32_t> energySums; ///< [blocks, blocks] over prompts, in units of EnergyUnits.h
  /// [blocks] column of the highest energy sum of each row; empty: that of energySums.
  std::vector<uint16_t> best;

  /// Nothing counted yet, for `tokens` of which the last `text` are text.
  static SiteCounts empty(uint64_t tokens, uint64_t text);

  /// Column of the highest mean energy of a row, ties to the lower one.
  uint32_t bestColumn(uint32_t row) const;
  /// The smallest count that is at least rho times the prompts.
  uint32_t threshold(double rho) const;
  /// Blocks that at least rho of the prompts kept, and always the diagonal block,
  /// each row's best, and text. Needs a prompt.
  BlockMask mask(double rho) const;
  /// Share of the attention inside `mask`, mean over prompts and queries.
  double keptMass(const BlockMask &mask) const;
  /// Sets what every mask keeps: diagonal, best blocks, text.
  void keepAlways(BlockMask &mask) const;
};

/// The minimum covers of one prompt's energies, [blocks, blocks] row-major: rows
/// before `textBlock` by minimumCover(); the diagonal and text blocks always.
BlockMask promptCover(std::span<const float> energies, uint32_t blocks, uint32_t textBlock,
                      double epsilon);

/// Votes on the blocks of one site over prompts.
class SiteVote {
public:
  static constexpr uint32_t kMaxPrompts = SiteCounts::kMaxPrompts;

  explicit SiteVote(uint64_t tokens) : site(SiteCounts::empty(tokens, 0)) {}

  /// Forgets all prompts.
  void clear();
  /// One prompt's energies, [blocks, blocks] row-major; at most kMaxPrompts times.
  void add(std::span<const float> energies, double epsilon);

  uint32_t blocks() const { return site.blocks; }
  uint32_t prompts() const { return site.prompts; }
  /// How many prompts kept each block, [blocks, blocks]. The diagonal block always counts.
  std::span<const uint8_t> counts() const { return site.counts; }
  const SiteCounts &all() const { return site; }

  BlockMask mask(double rho) const { return site.mask(rho); }
  double keptMass(const BlockMask &mask) const { return site.keptMass(mask); }

private:
  SiteCounts site;
};

} // namespace calibatt

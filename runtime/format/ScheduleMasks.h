// The schedule of a kernel as bitmaps: the form that images are made from, and
// that a package stores (ScheduleCodec.h), because it changes least from step to step.
#pragma once

#include "runtime/format/AnchorLayout.h"
#include "runtime/format/Result.h"
#include "runtime/format/ScheduleLayout.h"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace calibatt {

struct Schedule;

/// Which key blocks every row of a data image visits. Query and key blocks are the same.
struct ScheduleMasks {
  uint32_t tokens = 0, heads = 0;
  /// [heads] 1 where a head computes its anchor rows only; empty where none does.
  std::vector<uint8_t> repetitive = {};
  AnchorGrid grid = {}; ///< of the repetitive heads
  /// [heads][blocks()][rowWords()]: bit c % 64 of word c / 64 is key block c. The rows that a
  /// repetitive head does not have (behind its packed tiles) are zero, no other is.
  std::vector<uint64_t> words;

  uint32_t blocks() const { return (tokens + kBlock - 1) / kBlock; }
  uint32_t rowWords() const { return (blocks() + 63) / 64; }
  uint64_t rows() const { return uint64_t(heads) * blocks(); }
  bool isRepetitive(uint32_t head) const { return !repetitive.empty() && repetitive[head]; }
  /// Rows of a head: its packed tiles where it is repetitive.
  uint32_t rowsOf(uint32_t head) const {
    return isRepetitive(head) ? packedTiles(grid, tokens) : blocks();
  }
  std::span<const uint64_t> row(uint32_t head, uint32_t q) const {
    return {words.data() + (size_t(head) * blocks() + q) * rowWords(), rowWords()};
  }
  std::span<uint64_t> row(uint32_t head, uint32_t q) {
    return {words.data() + (size_t(head) * blocks() + q) * rowWords(), rowWords()};
  }
  bool operator==(const ScheduleMasks &) const = default;
};

/// Set bits; without the library call that a baseline x86-64 build makes of std::popcount.
constexpr uint32_t countBits(uint64_t word) {
  word -= word >> 1 & 0x5555555555555555u;
  word = (word & 0x3333333333333333u) + (word >> 2 & 0x3333333333333333u);
  word = (word + (word >> 4)) & 0x0F0F0F0F0F0F0F0Fu;
  return uint32_t(word * 0x0101010101010101u >> 56);
}
inline uint64_t countBits(std::span<const uint64_t> row) {
  uint64_t count = 0;
  for (uint64_t word : row)
    count += countBits(word);
  return count;
}

ScheduleMasks masksOf(const Schedule &schedule);
/// That sizes and grid are those of a schedule, no row is empty but those that are absent, none
/// goes beyond the last block, and the rows of a repetitive head are equal.
Status checkMasks(const ScheduleMasks &masks, const std::string &name);

/// The data image (Runs or Table): equal rows share their words, in order of first use.
std::vector<uint8_t> buildScheduleImage(const ScheduleMasks &masks, Form form);
/// Back from an image: what decodeScheduleImage() checks, at a fraction of its time.
Result<ScheduleMasks> masksOfImage(std::span<const uint8_t> image, const std::string &name);

} // namespace calibatt

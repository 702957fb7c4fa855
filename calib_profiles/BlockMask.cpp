// Counting, merging and comparing block masks, a machine word at a time.
#include "calib_profiles/BlockMask.h"

#include <bit>
#include <cassert>
#include <cstring>

namespace calibatt {

namespace {

/// Up to eight bytes as a little-endian word; missing bytes are zero.
uint64_t wordAt(std::span<const uint8_t> bytes, size_t offset) {
  uint64_t word = 0;
  std::memcpy(&word, bytes.data() + offset, std::min<size_t>(8, bytes.size() - offset));
  return word;
}

uint64_t popcount(std::span<const uint8_t> bytes) {
  uint64_t count = 0;
  for (size_t i = 0; i < bytes.size(); i += 8)
    count += std::popcount(wordAt(bytes, i));
  return count;
}

} // namespace

uint32_t BlockMask::count(uint32_t r) const { return uint32_t(popcount(row(r))); }

uint64_t BlockMask::count() const { return popcount(bits); }

uint64_t BlockMask::runs() const {
  uint64_t total = 0;
  for (uint32_t r = 0; r < numRows; ++r) {
    uint64_t carry = 0; // the bit before the word
    for (size_t i = 0; i < rowBytes(numCols); i += 8) {
      uint64_t word = wordAt(row(r), i);
      total += std::popcount(word & ~(word << 1 | carry));
      carry = word >> 63;
    }
  }
  return total;
}

std::vector<uint16_t> BlockMask::keptColumns(uint32_t r) const {
  std::vector<uint16_t> columns;
  for (size_t i = 0; i < rowBytes(numCols); i += 8)
    for (uint64_t word = wordAt(row(r), i); word; word &= word - 1)
      columns.push_back(uint16_t(i * 8 + std::countr_zero(word)));
  return columns;
}

double BlockMask::density() const {
  double blocks = double(numRows) * numCols;
  return blocks == 0 ? 0 : double(count()) / blocks;
}

void BlockMask::merge(const BlockMask &other) {
  assert(numRows == other.numRows && numCols == other.numCols && "masks of one shape");
  for (size_t i = 0; i < bits.size(); ++i)
    bits[i] |= other.bits[i];
}

BlockMask BlockMask::dense(uint32_t rows, uint32_t cols) {
  BlockMask mask(rows, cols);
  for (uint32_t r = 0; r < rows; ++r) {
    uint8_t *bytes = mask.bits.data() + r * rowBytes(cols);
    std::memset(bytes, 0xff, cols / 8);
    if (cols % 8)
      bytes[cols / 8] = uint8_t((1u << (cols % 8)) - 1);
  }
  return mask;
}

double intersectionOverUnion(const BlockMask &a, const BlockMask &b) {
  assert(a.rows() == b.rows() && a.cols() == b.cols() && "masks of one shape");
  uint64_t both = 0, either = 0;
  for (size_t i = 0; i < a.bytes().size(); i += 8) {
    uint64_t x = wordAt(a.bytes(), i), y = wordAt(b.bytes(), i);
    both += std::popcount(x & y);
    either += std::popcount(x | y);
  }
  return either == 0 ? 1 : double(both) / double(either);
}

} // namespace calibatt

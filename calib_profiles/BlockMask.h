// Which key blocks each query block keeps: the mask of one site.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace calibatt {

/// A rows x cols bit matrix. The bytes are those of the profile format: rows
/// row-major, each padded to whole bytes with zero bits, least significant bit first.
class BlockMask {
public:
  BlockMask() = default;
  BlockMask(uint32_t rows, uint32_t cols)
      : numRows(rows), numCols(cols), bits(size_t(rows) * rowBytes(cols)) {}

  uint32_t rows() const { return numRows; }
  uint32_t cols() const { return numCols; }
  static size_t rowBytes(uint32_t cols) { return (cols + 7) / 8; }

  bool get(uint32_t row, uint32_t col) const { return bits[offset(row, col)] >> (col % 8) & 1; }
  void set(uint32_t row, uint32_t col, bool keep = true) {
    uint8_t bit = uint8_t(1u << (col % 8));
    uint8_t &byte = bits[offset(row, col)];
    byte = keep ? byte | bit : byte & ~bit;
  }

  std::span<const uint8_t> row(uint32_t r) const {
    return {bits.data() + r * rowBytes(numCols), rowBytes(numCols)};
  }
  std::span<const uint8_t> bytes() const { return bits; }
  std::span<uint8_t> bytes() { return bits; }

  /// Kept blocks of one row, or of all rows.
  uint32_t count(uint32_t row) const;
  uint64_t count() const;
  /// Maximal sequences of consecutive kept blocks, summed over the rows.
  uint64_t runs() const;
  /// Kept blocks of a row in ascending order.
  std::vector<uint16_t> keptColumns(uint32_t row) const;
  /// count() / (rows * cols).
  double density() const;
  /// Adds the kept blocks of `other`, which has the same shape.
  void merge(const BlockMask &other);
  /// Every block kept.
  static BlockMask dense(uint32_t rows, uint32_t cols);

  bool operator==(const BlockMask &) const = default;

private:
  size_t offset(uint32_t row, uint32_t col) const { return row * rowBytes(numCols) + col / 8; }

  uint32_t numRows = 0, numCols = 0;
  std::vector<uint8_t> bits;
};

/// Intersection over union of two masks of one shape; 1 when both are empty.
double intersectionOverUnion(const BlockMask &a, const BlockMask &b);

} // namespace calibatt

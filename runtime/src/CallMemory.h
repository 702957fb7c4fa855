// Which memory the tensors of a call touch: whether their strides can be right, and whether an
// output would overwrite itself or an input.
#pragma once

#include <array>
#include <cstdint>
#include <string>

namespace calibatt {

/// One tensor of a call as rows of `row` contiguous elements.
struct CallTensor {
  const char *name;
  const void *address; ///< null: not known, and then not checked
  uint32_t elementBytes;
  int64_t row;
  std::array<int64_t, 3> extents; ///< of [batch, head, token]
  int64_t *strides;               ///< as many as the extents, in elements; the call's own
  int dims = 3;                   ///< 2 where a row is all tokens of a head
};

// Each of these returns what is wrong in words, or an empty string.

/// Fills in contiguous strides where all are zero, and zero where an extent is one. Wrong: a stride
/// or a whole tensor beyond any memory, an address that is not a multiple of the element's size.
std::string settleStrides(CallTensor &tensor);
/// Wrong: rows that overlap one another. The strides have been settled.
std::string rowsOverlap(const CallTensor &output);
/// Wrong: a byte of both. Exact where shape and strides are the same, as in packed q, k, v and o;
/// otherwise the ranges from first to last byte have to be apart.
std::string tensorsOverlap(const CallTensor &output, const CallTensor &other);

} // namespace calibatt

#include "runtime/src/CallMemory.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <span>

namespace calibatt {
namespace {

constexpr int64_t kMaxStride = int64_t(1) << 40; // elements
// A thousand times what a machine has, and far from overflow.
constexpr int64_t kMaxSpan = int64_t(1) << 48; // elements
constexpr const char *kDims[] = {"batch", "head", "token"};

// The dimensions, that of the smallest stride first; of equal ones the innermost.
std::array<int, 3> fromInside(const CallTensor &tensor) {
  std::array<int, 3> order{2, 1, 0};
  std::stable_sort(order.begin() + (3 - tensor.dims), order.end(),
                   [&](int a, int b) { return tensor.strides[a] < tensor.strides[b]; });
  std::rotate(order.begin(), order.begin() + (3 - tensor.dims), order.end());
  return order;
}

// Elements from the first to behind the last.
int64_t spanOf(const CallTensor &tensor) {
  int64_t span = tensor.row;
  for (int d = 0; d < tensor.dims; ++d)
    span += (tensor.extents[d] - 1) * tensor.strides[d];
  return span;
}

// Whether rows of two equally strided tensors, whose first elements are `distance` bytes apart,
// meet in a dimension of order[0, count), the others being settled. A row of the output is never
// longer than the stride of any dimension, which leaves two candidates in each.
bool rowsMeet(const CallTensor &tensor, const std::array<int, 3> &order, int count,
              int64_t distance) {
  if (count == 0)
    return std::abs(distance) < tensor.row * int64_t(tensor.elementBytes);
  const int d = order[size_t(count - 1)];
  const int64_t stride = tensor.strides[d] * int64_t(tensor.elementBytes);
  if (stride == 0) // an extent of one
    return rowsMeet(tensor, order, count - 1, distance);
  const int64_t below = -distance / stride - (-distance % stride < 0);
  for (const int64_t steps : {below, below + 1})
    if (std::abs(steps) < tensor.extents[d] &&
        rowsMeet(tensor, order, count - 1, distance + steps * stride))
      return true;
  return false;
}

} // namespace

std::string settleStrides(CallTensor &tensor) {
  const auto &extents = tensor.extents;
  const std::span strides(tensor.strides, size_t(tensor.dims));
  if (std::all_of(strides.begin(), strides.end(), [](int64_t s) { return s == 0; })) {
    int64_t next = tensor.row;
    for (int d = tensor.dims; d-- > 0; next *= extents[d])
      strides[d] = next;
  }
  int64_t span = tensor.row;
  for (int d = 0; d < tensor.dims; ++d) {
    if (extents[d] == 1) {
      strides[d] = 0;
      continue;
    }
    if (strides[d] < 0 || strides[d] > kMaxStride)
      return fmt::format("{} has {} stride {}, wanted 0 to 2^40 elements", tensor.name, kDims[d],
                         strides[d]);
    if (strides[d] > 0 && extents[d] - 1 > (kMaxSpan - span) / strides[d])
      return fmt::format("{} has {} stride {}, which takes its {} {} entries over more than 2^48 "
                         "elements",
                         tensor.name, kDims[d], strides[d], extents[d], kDims[d]);
    span += (extents[d] - 1) * strides[d];
  }
  if (reinterpret_cast<uintptr_t>(tensor.address) % tensor.elementBytes)
    return fmt::format("{} is at {}, wanted a multiple of its elements' {} bytes", tensor.name,
                       tensor.address, tensor.elementBytes);
  return {};
}

std::string rowsOverlap(const CallTensor &output) {
  int64_t inside = output.row;
  const auto order = fromInside(output);
  for (int i = 0; i < output.dims; ++i) {
    const int d = order[size_t(i)];
    if (output.extents[d] == 1)
      continue;
    if (output.strides[d] < inside)
      return fmt::format("{} has {} stride {}, wanted at least {} elements, or its rows overlap",
                         output.name, kDims[d], output.strides[d], inside);
    inside += (output.extents[d] - 1) * output.strides[d];
  }
  return {};
}

std::string tensorsOverlap(const CallTensor &output, const CallTensor &other) {
  if (!output.address || !other.address)
    return {};
  const auto begin = [](const CallTensor &t) { return reinterpret_cast<uintptr_t>(t.address); };
  const auto end = [&](const CallTensor &t) {
    return begin(t) + uintptr_t(spanOf(t)) * t.elementBytes;
  };
  if (end(output) <= begin(other) || end(other) <= begin(output))
    return {};
  if (output.dims != other.dims ||
      !std::equal(output.strides, output.strides + output.dims, other.strides))
    return fmt::format("{} and {} lie in one range of memory with different strides", output.name,
                       other.name);
  if (rowsMeet(output, fromInside(output), output.dims, int64_t(begin(other) - begin(output))))
    return fmt::format("{} overlaps {}", output.name, other.name);
  return {};
}

} // namespace calibatt

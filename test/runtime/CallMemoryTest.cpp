// Overlap of strided tensors, against every byte of small ones.
#include "runtime/src/CallMemory.h"
#include "test/format/Samples.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <vector>

using namespace calibatt;
using namespace calibatt::test;

namespace {

// A tensor of a few entries; which of `memory`'s bytes it has, each counted.
struct SmallTensor {
  std::array<int64_t, 3> strides{};
  CallTensor tensor;

  SmallTensor(const char *name, uint32_t bytes, int64_t row, std::array<int64_t, 3> extents)
      : tensor{name, nullptr, bytes, row, extents, nullptr} {}
  const CallTensor &at(const uint8_t *address) {
    tensor.address = address;
    tensor.strides = strides.data();
    return tensor;
  }
  std::vector<int> count(const std::vector<uint8_t> &memory) const {
    std::vector<int> touched(memory.size());
    const size_t first = size_t(static_cast<const uint8_t *>(tensor.address) - memory.data());
    for (int64_t b = 0; b < tensor.extents[0]; ++b)
      for (int64_t h = 0; h < tensor.extents[1]; ++h)
        for (int64_t t = 0; t < tensor.extents[2]; ++t)
          for (int64_t byte = 0; byte < tensor.row * tensor.elementBytes; ++byte)
            ++touched[first + size_t((b * strides[0] + h * strides[1] + t * strides[2]) *
                                         tensor.elementBytes +
                                     byte)];
    return touched;
  }
};

// Strides of a tensor whose dimensions nest in a random order, with gaps now and then.
std::array<int64_t, 3> nestedStrides(Random &random, const CallTensor &tensor) {
  std::array<int, 3> order{0, 1, 2};
  std::shuffle(order.begin(), order.end(), random.engine);
  std::array<int64_t, 3> strides{};
  int64_t inside = tensor.row;
  for (const int d : order) {
    strides[size_t(d)] = inside + int64_t(random.integer(0, 3)) * int64_t(random.integer(0, 9));
    inside = (tensor.extents[size_t(d)] - 1) * strides[size_t(d)] + inside;
  }
  return strides;
}

std::array<int64_t, 3> smallExtents(Random &random) {
  return {int64_t(random.integer(1, 3)), int64_t(random.integer(1, 3)),
          int64_t(random.integer(1, 4))};
}

} // namespace

TEST_CASE("tensors of equal strides overlap exactly where they have a byte in common") {
  Random random;
  CAPTURE(random.seed);
  int met = 0, apart = 0;
  std::vector<uint8_t> memory(1 << 14);
  for (int i = 0; i < 20000; ++i) {
    const uint32_t bytes = random.integer(0, 1) ? 2 : 4;
    SmallTensor o("o", bytes, int64_t(random.integer(1, 3)), smallExtents(random));
    o.strides = nestedStrides(random, o.at(memory.data()));
    SmallTensor q = o;
    q.tensor.name = "q";
    o.at(memory.data() + (1 << 10));
    q.at(memory.data() + (1 << 10) + bytes * random.integer(0, 400) - bytes * 200);
    REQUIRE(settleStrides(o.tensor).empty());
    REQUIRE(settleStrides(q.tensor).empty());
    REQUIRE(rowsOverlap(o.tensor) == "");
    const std::vector<int> written = o.count(memory), read = q.count(memory);
    bool common = false;
    for (size_t byte = 0; byte < memory.size(); ++byte)
      common |= written[byte] && read[byte];
    (common ? met : apart)++;
    CAPTURE(o.strides[0]);
    CAPTURE(o.strides[1]);
    CAPTURE(o.strides[2]);
    CAPTURE(static_cast<const uint8_t *>(q.tensor.address) -
            static_cast<const uint8_t *>(o.tensor.address));
    REQUIRE(tensorsOverlap(o.tensor, q.tensor) == (common ? "o overlaps q" : ""));
  }
  CHECK(met > 1000);
  CHECK(apart > 1000);
}

TEST_CASE("an output whose rows overlap is never taken") {
  Random random;
  CAPTURE(random.seed);
  int refused = 0, taken = 0;
  std::vector<uint8_t> memory(1 << 14);
  for (int i = 0; i < 20000; ++i) {
    SmallTensor o("o", 4, int64_t(random.integer(1, 4)), smallExtents(random));
    for (int64_t &stride : o.strides)
      stride = int64_t(random.integer(0, 40));
    o.at(memory.data());
    REQUIRE(settleStrides(o.tensor).empty());
    const std::vector<int> written = o.count(memory);
    const bool overlap = *std::max_element(written.begin(), written.end()) > 1;
    const bool wrong = !rowsOverlap(o.tensor).empty();
    CAPTURE(o.strides[0]);
    CAPTURE(o.strides[1]);
    CAPTURE(o.strides[2]);
    // Layouts that interleave without nesting are refused with those that overlap.
    REQUIRE((wrong || !overlap));
    (wrong ? refused : taken)++;
  }
  CHECK(refused > 1000);
  CHECK(taken > 1000);
}

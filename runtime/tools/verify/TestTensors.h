// Random attention inputs, and outputs that show whether they were written.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace calibatt {

/// Order of the dimensions in memory; head_dim is last in both.
enum class TensorOrder {
  HeadMajor,  ///< [batch, heads, tokens, head_dim]
  TokenMajor, ///< [batch, tokens, heads, head_dim]
};

struct TensorShape {
  uint32_t batch = 1, heads = 1, tokens = 0, headDim = 0;
  TensorOrder order = TensorOrder::HeadMajor;

  size_t elements() const { return size_t(batch) * heads * tokens * headDim; }
  /// [batch, heads, tokens] of the log-sum-exp, always head-major.
  size_t lseElements() const { return size_t(batch) * heads * tokens; }
  int64_t batchStride() const { return int64_t(heads) * tokens * headDim; }
  int64_t headStride() const {
    return order == TensorOrder::HeadMajor ? int64_t(tokens) * headDim : headDim;
  }
  int64_t tokenStride() const {
    return order == TensorOrder::HeadMajor ? headDim : int64_t(heads) * headDim;
  }
  size_t offset(uint32_t b, uint32_t h, uint32_t t) const {
    return size_t(b * batchStride() + h * headStride() + t * tokenStride());
  }
  size_t lseOffset(uint32_t b, uint32_t h, uint32_t t) const {
    return (size_t(b) * heads + h) * tokens + t;
  }
};

/// q, k and v as bf16 bits: what a kernel and its reference both start from.
struct TestTensors {
  TensorShape shape;
  std::vector<uint16_t> q, k, v;
};

/// What came back, as float32.
struct TestOutputs {
  std::vector<float> o;
  std::vector<float> lse;
};

/// Another number each time; of 32 bits, which are easily typed again.
uint64_t freshSeed();

/// Normal values; those of q are `deviation` times as wide, so that scaled logits have about that
/// standard deviation, and the running maximum of the softmax has work to do.
/// `scale` is the softmax scale, which sets how wide k has to be.
TestTensors randomTensors(const TensorShape &shape, double scale, uint64_t seed,
                          double deviation = 2);

/// bf16 bits to float32.
inline float fromBf16(uint16_t bits) { return std::bit_cast<float>(uint32_t(bits) << 16); }
/// The same of a vector.
std::vector<float> fromBf16(const std::vector<uint16_t> &bits);
/// Outputs full of NaN.
TestOutputs poisonedOutputs(const TensorShape &shape);

} // namespace calibatt

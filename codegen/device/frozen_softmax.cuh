// The softmax with a frozen maximum: the reference of a row is its maximum over the
// first block and never moves, so that a step is one FFMA and one exponential a
// logit. A row whose later logits exceed it too far is told by isGood(), and its
// tile runs again with OnlineSoftmax.
#pragma once

#include "softmax_rows.cuh"

namespace calibatt {

template <AttentionSpec S> struct FrozenSoftmax : SoftmaxRows<S> {
  CALIBATT_DEVICE void first(float (&s)[64]) {
#pragma unroll
    for (int i = 0; i < kRowsPerThread; ++i) {
      this->setReference(i, this->blockMax(s, i));
      this->rowSum[i] = 0;
    }
    this->exponentiate(s);
  }

  /// The reference stays: O is never rescaled.
  CALIBATT_DEVICE bool next(float (&s)[64]) {
    this->exponentiate(s);
    return false;
  }
  template <int N> CALIBATT_DEVICE void rescaleOutput(float (&)[N]) const {}

  /// Whether sums and outputs are what the online softmax would find, after finish(): a row's sum
  /// is at least the 1 of its reference and far from overflow, and O is finite. Written so that
  /// NaN is not good.
  template <int N> CALIBATT_DEVICE bool isGood(const float (&o)[N]) const {
    float zero = 0;
#pragma unroll
    for (int i = 0; i < N; ++i)
      zero = fmaf(o[i], 0.0f, zero);
    bool good = zero == 0.0f;
#pragma unroll
    for (int i = 0; i < kRowsPerThread; ++i)
      good = good & (this->divisor[i] >= 0x1p-68f) & (this->divisor[i] <= 0x1p64f);
    return good;
  }
};

} // namespace calibatt

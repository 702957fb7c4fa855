// The softmax whose reference follows the running maximum of each row; O and the
// sums are rescaled when it moves.
#pragma once

#include "softmax_rows.cuh"

namespace calibatt {

template <AttentionSpec S> struct OnlineSoftmax : SoftmaxRows<S> {
  /// With lazy_rescale a new maximum becomes the reference only where it is
  /// more than 2^8 above it, so that the sums stay below 2^8 * keys. Where the sums are of
  /// unrounded weights, also where its weight is more than about 1/8 of the row's sum (kShare
  /// of a lane's fourth): the weight of the reference is exactly 1 in bf16, and where one key
  /// makes up a row the rounding of any other weight would be the error of the row.
  static constexpr float kSlack = S.lazy_rescale ? 8.0f / SoftmaxRows<S>::kScaleLog2 : 0.0f;
  static constexpr float kShare = 0.5f;

  float rowMax[kRowsPerThread];    ///< reference, raw logits
  float rescale[kRowsPerThread];   ///< factor for O, valid after a step that grew
  float blockBest[kRowsPerThread]; ///< maximum of the last block, raw logits

  CALIBATT_DEVICE void first(float (&s)[64]) {
#pragma unroll
    for (int i = 0; i < kRowsPerThread; ++i) {
      blockBest[i] = this->blockMax(s, i);
      setMax(i, blockBest[i]);
      this->rowSum[i] = 0;
    }
    this->exponentiate(s);
  }

  /// Returns whether O has to be rescaled (uniform over the warp).
  CALIBATT_DEVICE bool next(float (&s)[64]) {
    bool grew = false;
#pragma unroll
    for (int i = 0; i < kRowsPerThread; ++i) {
      blockBest[i] = this->blockMax(s, i);
      grew |= blockBest[i] > rowMax[i] + kSlack;
      if constexpr (S.lazy_rescale && !S.mma_sums)
        grew |= this->power(blockBest[i], i) > fmaxf(1.0f, kShare * this->rowSum[i]);
    }
    grew = __any_sync(~0u, grew);
    if (grew) {
#pragma unroll
      for (int i = 0; i < kRowsPerThread; ++i) {
        float before = this->maxScaled[i];
        bool none = rowMax[i] == -this->infinity();
        setMax(i, fmaxf(rowMax[i], blockBest[i]));
        rescale[i] = none ? 0.0f : ptx::exp2Approx(before - this->maxScaled[i]);
        this->rowSum[i] *= rescale[i];
      }
    }
    this->exponentiate(s);
    return grew;
  }

  /// O, in the fragment layout, relative to the reference of now.
  template <int N> CALIBATT_DEVICE void rescaleOutput(float (&o)[N]) const {
#pragma unroll
    for (int j = 0; j < N / 4; ++j) {
      o[4 * j] *= rescale[0];
      o[4 * j + 1] *= rescale[0];
      o[4 * j + 2] *= rescale[1];
      o[4 * j + 3] *= rescale[1];
    }
  }

private:
  CALIBATT_DEVICE void setMax(int i, float maximum) {
    rowMax[i] = maximum;
    this->setReference(i, maximum);
  }
};

} // namespace calibatt

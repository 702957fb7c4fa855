// The softmax of one consumer warpgroup: two query rows a thread, each shared by
// four lanes. Maxima are of raw logits q.k; scaling happens inside one FFMA.
#pragma once

#include "ptx/convert.cuh"
#include "spec.cuh"
#include "types.cuh"

namespace calibatt {

/// Fragment layout of an m64nN accumulator: thread (warp w, lane l), element
/// 4j + 2i + b is row 16w + l/4 + 8i, column 8j + 2(l%4) + b.
constexpr int kRowsPerThread = 2;

template <AttentionSpec S> struct OnlineSoftmax {
  static constexpr float kLog2e = 1.4426950408889634f;
  static constexpr float kScaleLog2 = S.scale * kLog2e;
  /// With lazy_rescale a new maximum becomes the reference only where it is
  /// more than 2^8 above it, so that the sums stay below 2^8 * keys, or where its
  /// weight is more than about 1/8 of the row's sum (kShare of a lane's fourth):
  /// the weight of the reference is exactly 1 in bf16, and where one key makes up a
  /// row the rounding of any other weight would be the error of the row.
  static constexpr float kSlack = S.lazy_rescale ? 8.0f / kScaleLog2 : 0.0f;
  static constexpr float kShare = 0.5f;

  float rowMax[kRowsPerThread];    ///< reference maximum, raw logits
  float maxScaled[kRowsPerThread]; ///< rowMax * scale * log2(e), 0 where rowMax is -inf
  float rowSum[kRowsPerThread];    ///< this thread's share of the sum
  float rescale[kRowsPerThread];   ///< factor for O, valid after a step that grew

  CALIBATT_DEVICE static float infinity() { return __int_as_float(0x7f800000); }

  /// Maximum of a row of logits over the four lanes that hold it.
  CALIBATT_DEVICE static float blockMax(const float (&s)[64], int i) {
    float best = fmaxf(s[2 * i], s[2 * i + 1]);
#pragma unroll
    for (int j = 1; j < 16; ++j)
      best = fmaxf(best, fmaxf(s[4 * j + 2 * i], s[4 * j + 2 * i + 1]));
    best = fmaxf(best, __shfl_xor_sync(~0u, best, 1));
    return fmaxf(best, __shfl_xor_sync(~0u, best, 2));
  }

  /// s becomes exp2(s * scale - maximum); its sum is added to rowSum.
  CALIBATT_DEVICE void exponentiate(float (&s)[64]) {
#pragma unroll
    for (int i = 0; i < kRowsPerThread; ++i) {
      float sum = 0;
#pragma unroll
      for (int j = 0; j < 16; ++j) {
#pragma unroll
        for (int b = 0; b < 2; ++b) {
          float &x = s[4 * j + 2 * i + b];
          x = power(x, i);
          sum += x;
        }
      }
      rowSum[i] += sum;
    }
  }

  /// Weight of a logit of row i, relative to the reference.
  CALIBATT_DEVICE float power(float logit, int i) const {
    return ptx::exp2Approx(fmaf(logit, kScaleLog2, -maxScaled[i]));
  }

  CALIBATT_DEVICE void setMax(int i, float maximum) {
    rowMax[i] = maximum;
    maxScaled[i] = maximum == -infinity() ? 0.0f : maximum * kScaleLog2;
  }

  CALIBATT_DEVICE void first(float (&s)[64]) {
#pragma unroll
    for (int i = 0; i < kRowsPerThread; ++i) {
      setMax(i, blockMax(s, i));
      rowSum[i] = 0;
    }
    exponentiate(s);
  }

  /// Returns whether O has to be multiplied by rescale (uniform over the warp).
  CALIBATT_DEVICE bool next(float (&s)[64]) {
    float best[kRowsPerThread];
    bool grew = false;
#pragma unroll
    for (int i = 0; i < kRowsPerThread; ++i) {
      best[i] = blockMax(s, i);
      grew |= best[i] > rowMax[i] + kSlack;
      if constexpr (S.lazy_rescale)
        grew |= power(best[i], i) > fmaxf(1.0f, kShare * rowSum[i]);
    }
    grew = __any_sync(~0u, grew);
    if (grew) {
#pragma unroll
      for (int i = 0; i < kRowsPerThread; ++i) {
        float before = maxScaled[i];
        bool none = rowMax[i] == -infinity();
        setMax(i, fmaxf(rowMax[i], best[i]));
        rescale[i] = none ? 0.0f : ptx::exp2Approx(before - maxScaled[i]);
        rowSum[i] *= rescale[i];
      }
    }
    exponentiate(s);
    return grew;
  }

  /// Adds up the four lanes' shares.
  CALIBATT_DEVICE void finish() {
#pragma unroll
    for (int i = 0; i < kRowsPerThread; ++i) {
      rowSum[i] += __shfl_xor_sync(~0u, rowSum[i], 1);
      rowSum[i] += __shfl_xor_sync(~0u, rowSum[i], 2);
    }
  }

  /// Natural log-sum-exp of the scaled logits of row i, after finish().
  CALIBATT_DEVICE float logSumExp(int i) const {
    return (maxScaled[i] + ptx::log2Approx(rowSum[i])) * 0.6931471805599453f;
  }
};

} // namespace calibatt

// What the softmaxes of a consumer warpgroup share: two query rows a thread, each
// spread over four lanes. Maxima are of raw logits q.k; scaling happens inside one FFMA.
#pragma once

#include "ptx/convert.cuh"
#include "spec.cuh"
#include "types.cuh"

namespace calibatt {

/// Fragment layout of an m64nN accumulator: thread (warp w, lane l), element
/// 4j + 2i + b is row 16w + l/4 + 8i, column 8j + 2(l%4) + b.
constexpr int kRowsPerThread = 2;

template <AttentionSpec S> struct SoftmaxRows {
  static constexpr float kLog2e = 1.4426950408889634f;
  static constexpr float kScaleLog2 = S.scale * kLog2e;

  float maxScaled[kRowsPerThread]; ///< reference * scale * log2(e), 0 where the reference is -inf
  /// Sum of the weights: this thread's share until finish(). Not there with mma_sums unless LSE
  /// asks.
  float rowSum[kRowsPerThread];
  /// What O is divided by, after finish(): the same sum, or with mma_sums that of the weights
  /// rounded to bf16, as they multiply V. P V finds it, in O's last four values, and where a
  /// few keys make up a row the rounding of their weights cancels.
  float divisor[kRowsPerThread];

  float blockSum[kRowsPerThread]; ///< this thread's share of the last block's (energy_softmax.cuh)

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

  /// Weight of a logit of row i, relative to the reference.
  CALIBATT_DEVICE float power(float logit, int i) const {
    return ptx::exp2Approx(fmaf(logit, kScaleLog2, -maxScaled[i]));
  }

  /// s becomes exp2(s * scale - reference); its sum is added to rowSum.
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
          if constexpr (!S.mma_sums || S.lse_sums)
            sum += x;
        }
      }
      blockSum[i] = sum;
      rowSum[i] += sum;
    }
  }

  CALIBATT_DEVICE void setReference(int i, float maximum) {
    maxScaled[i] = maximum == -infinity() ? 0.0f : maximum * kScaleLog2;
  }

  /// Of the four lanes that share a row.
  CALIBATT_DEVICE static float sumOfLanes(float share) {
    share += __shfl_xor_sync(~0u, share, 1);
    return share + __shfl_xor_sync(~0u, share, 2);
  }

  /// Completes the sums. `o` is the finished product P V.
  template <int N> CALIBATT_DEVICE void finish(const float (&o)[N]) {
#pragma unroll
    for (int i = 0; i < kRowsPerThread; ++i) {
      rowSum[i] = sumOfLanes(rowSum[i]);
      divisor[i] = S.mma_sums ? o[N - 4 + 2 * i] : rowSum[i];
    }
  }

  /// Natural log-sum-exp of the scaled logits of row i, after finish().
  CALIBATT_DEVICE float logSumExp(int i) const {
    return (maxScaled[i] + ptx::log2Approx(rowSum[i])) * 0.6931471805599453f;
  }
};

} // namespace calibatt

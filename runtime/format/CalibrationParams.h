// Parameters of the calibration kernels: filled by the runtime, read by the device.
// Also compiled for the device (NVRTC): no includes but one that has none.
//
// Heads are counted within the call: "head" below is batch entry * heads + head.
#pragma once

#include "runtime/format/LaunchParams.h"

namespace calibatt {

/// Dense attention that leaves block energies. Grid: heads * blocks CTAs of 384
/// threads, a head's query blocks one after another.
struct EnergyParams {
  LaunchParams attention; ///< maps, o and lse; no schedule and no work list
  float *sums;            ///< slot_count slots of [blocks, 128] floats, what a running CTA owns
  unsigned *slots;        ///< slot_count words, 0 before the launch and after it
  unsigned slot_count;    ///< at least the CTAs that run at a time, or some wait
  unsigned heads;         ///< of a batch entry
  const float *norms;     ///< [head, blocks * 128] |v|, zero past the end; weighted energies only
  float *energies;        ///< [head, blocks, blocks]
  float *row_max;         ///< [head, tokens] largest scaled logit, nats; or null
};

/// |v| of every key, what weighted energies are weighted by. Any grid.
struct NormParams {
  const unsigned char *v; ///< bf16
  long long v_strides[3]; ///< of batch entry, head, token in bytes, multiples of 16
  unsigned batch, heads;
  float *norms; ///< [head, blocks * 128], zero past the end
};

/// The minimum covers of rows of energies. Any grid.
struct CoverParams {
  const float *energies; ///< [rows, blocks], not negative
  unsigned char *cover;  ///< [rows, (blocks + 7) / 8], bit c % 8 of byte c / 8
  unsigned rows;         ///< heads * blocks
  double epsilon;        ///< share of a row's sum to keep
};

/// Log-sum-exps of sums of queries: of a query with that of the anchor row standing for
/// it, or of a query alone. Grid as of EnergyParams.
struct LseParams {
  LaunchParams attention; ///< the maps of q and k; q_data and q_strides
  unsigned heads;         ///< of a batch entry
  float *lse;             ///< [head, tokens] nats
};

/// Repetition of every head, from log-sum-exps of all its tokens. A CTA a head.
struct RepetitionParams {
  const float *lse; ///< of the queries; strides of batch entry and head in elements
  long long lse_batch_stride, lse_head_stride;
  const float *pair, *self; ///< [head, tokens] of query and anchor query, of twice the query
  unsigned heads;           ///< of a batch entry
  float *scores;            ///< [head]
};

/// What the kernels of a calibration are. Their symbols say which is which:
/// "calibatt_calibration_", the name, "_" and 16 hexadecimal digits.
enum class CalibrationKernel : unsigned char {
  Energy,
  WeightedEnergy,
  Norms,
  Cover,
  PairLse, ///< of q + q_anchor
  SelfLse, ///< of 2 q
  Repetition
};
constexpr unsigned kCalibrationKernels = 7;

constexpr const char *calibrationName(CalibrationKernel kernel) {
  switch (kernel) {
  case CalibrationKernel::Energy:
    return "energy";
  case CalibrationKernel::WeightedEnergy:
    return "weighted_energy";
  case CalibrationKernel::Norms:
    return "norms";
  case CalibrationKernel::Cover:
    return "cover";
  case CalibrationKernel::PairLse:
    return "pair_lse";
  case CalibrationKernel::SelfLse:
    return "self_lse";
  case CalibrationKernel::Repetition:
    return "repetition";
  }
  return "unknown";
}
#define CALIBATT_CALIBRATION_SYMBOL "calibatt_calibration_"

} // namespace calibatt

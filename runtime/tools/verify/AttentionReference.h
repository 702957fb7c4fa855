// Masked attention in float64, a query at a time, and how far an output is from it.
#pragma once

#include "runtime/tools/verify/TestTensors.h"

#include <cstdint>
#include <vector>

namespace calibatt {

/// One query row of the reference.
struct ReferenceRow {
  std::vector<double> o; ///< [head_dim]
  double lse = 0;        ///< natural log
};

/// Attention of query `token` over the tokens of the given key blocks (any
/// order, each once, inside the tensor). head_dim is a multiple of 8.
ReferenceRow referenceRow(const TestTensors &tensors, double scale, uint32_t batch, uint32_t head,
                          uint32_t token, const std::vector<uint16_t> &keyBlocks);

/// Error accumulated over rows.
struct ErrorStats {
  uint64_t rows = 0;
  double squaredError = 0, squaredReference = 0;
  double maxError = 0;    ///< of one element
  double maxLseError = 0; ///< nats
  bool sawNan = false;    ///< an output element or log-sum-exp was NaN or infinite

  /// Compares one query row of an output.
  void add(const ReferenceRow &reference, const float *o, float lse);
  void merge(const ErrorStats &other);
  /// sqrt(sum of squared errors / sum of squared reference).
  double relativeRms() const;
};

} // namespace calibatt

// The float64 reference of `calibatt verify`: two passes over the keys, no tricks.
#include "runtime/tools/verify/AttentionReference.h"

#include "runtime/format/ScheduleLayout.h"

#include <algorithm>
#include <cmath>

namespace calibatt {

ReferenceRow referenceRow(const TestTensors &tensors, double scale, uint32_t batch, uint32_t head,
                          uint32_t token, const std::vector<uint16_t> &keyBlocks) {
  const TensorShape &shape = tensors.shape;
  const uint32_t dim = shape.headDim;
  auto widen = [dim](const uint16_t *from, double *to) {
    for (uint32_t d = 0; d < dim; ++d)
      to[d] = fromBf16(from[d]);
  };
  std::vector<double> q(dim), other(dim);
  widen(&tensors.q[shape.offset(batch, head, token)], q.data());

  std::vector<double> logits;
  std::vector<uint32_t> keys;
  for (uint16_t block : keyBlocks) {
    uint32_t end = std::min(shape.tokens, (block + 1u) * kBlock);
    for (uint32_t key = block * kBlock; key < end; ++key) {
      widen(&tensors.k[shape.offset(batch, head, key)], other.data());
      // Independent partial sums, so that the additions need not wait for each other.
      double partial[8] = {};
      for (uint32_t d = 0; d < dim; d += 8)
        for (uint32_t lane = 0; lane < 8; ++lane)
          partial[lane] += q[d + lane] * other[d + lane];
      double dot = 0;
      for (double sum : partial)
        dot += sum;
      logits.push_back(dot * scale);
      keys.push_back(key);
    }
  }
  double maximum = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  ReferenceRow row{std::vector<double>(dim, 0.0), 0};
  for (size_t i = 0; i < keys.size(); ++i) {
    double weight = std::exp(logits[i] - maximum);
    sum += weight;
    widen(&tensors.v[shape.offset(batch, head, keys[i])], other.data());
    for (uint32_t d = 0; d < dim; ++d)
      row.o[d] += weight * other[d];
  }
  for (double &value : row.o)
    value /= sum;
  row.lse = maximum + std::log(sum);
  return row;
}

void ErrorStats::add(const ReferenceRow &reference, const float *o, float lse) {
  ++rows;
  for (size_t d = 0; d < reference.o.size(); ++d) {
    if (!std::isfinite(o[d])) {
      sawNan = true;
      continue;
    }
    double error = std::fabs(double(o[d]) - reference.o[d]);
    squaredError += error * error;
    squaredReference += reference.o[d] * reference.o[d];
    maxError = std::max(maxError, error);
  }
  if (std::isfinite(lse))
    maxLseError = std::max(maxLseError, std::fabs(double(lse) - reference.lse));
  else
    sawNan = true;
}

void ErrorStats::merge(const ErrorStats &other) {
  rows += other.rows;
  squaredError += other.squaredError;
  squaredReference += other.squaredReference;
  maxError = std::max(maxError, other.maxError);
  maxLseError = std::max(maxLseError, other.maxLseError);
  sawNan |= other.sawNan;
}

double ErrorStats::relativeRms() const {
  return squaredReference > 0 ? std::sqrt(squaredError / squaredReference) : 0;
}

} // namespace calibatt

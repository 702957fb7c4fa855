#include "reference.h"

#include <math.h>

static int kept(const reference_t *p, uint32_t query, uint32_t key) {
  const uint8_t *row = p->mask + (query / p->block) * ((p->blocks + 7) / 8);
  const uint32_t column = key / p->block;
  return row[column / 8] >> column % 8 & 1;
}

double reference_row(const reference_t *p, uint32_t query, double *weights, double *o) {
  const float *q = p->q + (uint64_t)query * p->head_dim;
  double largest = -INFINITY, sum = 0;
  for (uint32_t key = 0; key < p->tokens; ++key) {
    const float *k = p->k + (uint64_t)key * p->head_dim;
    weights[key] = -INFINITY;
    if (!kept(p, query, key))
      continue;
    double dot = 0;
    for (uint32_t d = 0; d < p->head_dim; ++d)
      dot += (double)q[d] * k[d];
    weights[key] = dot * p->scale;
    largest = fmax(largest, weights[key]);
  }
  for (uint32_t d = 0; d < p->head_dim; ++d)
    o[d] = 0;
  for (uint32_t key = 0; key < p->tokens; ++key) {
    const double weight = exp(weights[key] - largest);
    const float *v = p->v + (uint64_t)key * p->head_dim;
    sum += weight;
    for (uint32_t d = 0; weight > 0 && d < p->head_dim; ++d)
      o[d] += weight * v[d];
  }
  for (uint32_t d = 0; d < p->head_dim; ++d)
    o[d] /= sum;
  return largest + log(sum);
}

#include "reference.h"

#include <math.h>

static int kept(const reference_t *p, uint32_t query, uint32_t key) {
  const uint8_t *row = p->mask + (query / p->block) * ((p->blocks + 7) / 8);
  const uint32_t column = key / p->block;
  return row[column / 8] >> column % 8 & 1;
}

/* The token in the same column of the nearest anchor row, the lower one of two. */
static uint32_t anchor_of(const uint32_t grid[3], uint32_t token) {
  const uint32_t height = grid[0], width = grid[1], anchors = grid[2];
  const uint32_t row = token / width % height;
  uint32_t nearest = 0, distance = UINT32_MAX;
  for (uint32_t i = 0; i < anchors; ++i) {
    const uint32_t anchor = (2 * i + 1) * height / (2 * anchors);
    const uint32_t away = anchor > row ? anchor - row : row - anchor;
    if (away < distance) {
      nearest = anchor;
      distance = away;
    }
  }
  return token - row * width + nearest * width;
}

double reference_row(const reference_t *p, uint32_t token, double *weights, double *o) {
  const uint32_t query = p->grid[2] ? anchor_of(p->grid, token) : token;
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

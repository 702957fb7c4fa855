/* Masked attention in float64, straight from its definition. */
#ifndef C_HOST_REFERENCE_H
#define C_HOST_REFERENCE_H

#include <stdint.h>

/* One head: the inputs [tokens, head_dim], and which blocks of `block` x `block` scores are kept:
 * a row of `blocks` bits for each block of queries, in (blocks + 7) / 8 bytes, least significant
 * bit first (as calibatt_site_mask gives it). */
typedef struct reference {
  const float *q, *k, *v;
  uint32_t tokens, head_dim, block, blocks;
  double scale;
  const uint8_t *mask;
} reference_t;

/* o[head_dim] of one query; returns the log of the sum of exp(scale * q.k) over its kept keys.
 * `weights` has room for `tokens` numbers. */
double reference_row(const reference_t *problem, uint32_t query, double *weights, double *o);

#endif

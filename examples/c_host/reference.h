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
  /* Of frames of grid[0] spatial rows of grid[1] tokens only grid[2] anchor rows are computed and
   * copied to the others (calibatt_site_anchors); all 0 where every row is. */
  const uint32_t *grid;
} reference_t;

/* o[head_dim] of one token, from its own query or its anchor's; returns the log of the sum of
 * exp(scale * q.k) over its kept keys. `weights` has room for `tokens` numbers. */
double reference_row(const reference_t *problem, uint32_t token, double *weights, double *o);

#endif

/* What the block calls with: tensors of the sample's size. */
#include <calibatt/calibatt.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { kHeads = 2, kTokens = 420, kHeadDim = 64 };

int main(void) {
  const size_t bytes = sizeof(uint16_t) * kHeads * kTokens * kHeadDim;
  void *q = aligned_alloc(256, bytes), *k = aligned_alloc(256, bytes), *v = aligned_alloc(256, bytes),
       *o = aligned_alloc(256, bytes), *stream = NULL;
  const int64_t strides[3] = {kHeads * kTokens * kHeadDim, kTokens * kHeadDim, kHeadDim};
#include "block.h"
  calibatt_session_destroy(session);
  calibatt_package_close(package);
  return 0;
}

/* The tensors of one head, [tokens, head_dim], in the type of a call. */
#ifndef C_HOST_TENSOR_H
#define C_HOST_TENSOR_H

#include <calibatt/calibatt.h>

typedef struct tensor {
  calibatt_dtype_t dtype;
  size_t elements, bytes;
  void *data;    /* bf16 or float32: what the library reads or writes */
  float *values; /* the same numbers; for a bf16 tensor a second array */
} tensor_t;

/* Every byte is 0xFF, which is NaN in both types: what nobody writes shows. */
tensor_t tensor_poisoned(calibatt_dtype_t dtype, size_t elements);
/* Independent normal numbers of deviation 1, rounded to the type. `state` is the generator's. */
tensor_t tensor_random(calibatt_dtype_t dtype, size_t elements, uint64_t *state);
/* Takes over what was written to `data`. */
void tensor_update_values(tensor_t *tensor);
void tensor_free(tensor_t *tensor);

#endif

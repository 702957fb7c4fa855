#include "tensor.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *allocate(size_t bytes) {
  void *memory = malloc(bytes);
  if (!memory) {
    fprintf(stderr, "c_host: out of memory (%zu bytes)\n", bytes);
    exit(1);
  }
  return memory;
}

tensor_t tensor_poisoned(calibatt_dtype_t dtype, size_t elements) {
  const int narrow = dtype == CALIBATT_DTYPE_BF16;
  tensor_t tensor = {dtype, elements, elements * (narrow ? 2 : 4), NULL, NULL};
  tensor.data = allocate(tensor.bytes);
  tensor.values = narrow ? allocate(elements * sizeof(float)) : tensor.data;
  memset(tensor.data, 0xFF, tensor.bytes);
  tensor_update_values(&tensor);
  return tensor;
}

/* Uniform in (0, 1]: xorshift64*. */
static double uniform(uint64_t *state) {
  *state ^= *state >> 12;
  *state ^= *state << 25;
  *state ^= *state >> 27;
  return ((double)((*state * 0x2545F4914F6CDD1Du) >> 11) + 1) / 9007199254740992.0;
}

static double normal(uint64_t *state) { /* Box and Muller */
  const double radius = sqrt(-2 * log(uniform(state)));
  return radius * cos(6.283185307179586 * uniform(state));
}

/* bf16 is the upper half of a float32; to nearest, ties to even. */
static uint16_t bf16_of(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return (uint16_t)((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);
}

tensor_t tensor_random(calibatt_dtype_t dtype, size_t elements, uint64_t *state) {
  tensor_t tensor = tensor_poisoned(dtype, elements);
  for (size_t i = 0; i < elements; ++i) {
    const float value = (float)normal(state);
    if (dtype == CALIBATT_DTYPE_BF16)
      ((uint16_t *)tensor.data)[i] = bf16_of(value);
    else
      ((float *)tensor.data)[i] = value;
  }
  tensor_update_values(&tensor);
  return tensor;
}

void tensor_update_values(tensor_t *tensor) {
  if (tensor->dtype != CALIBATT_DTYPE_BF16)
    return; /* one array */
  for (size_t i = 0; i < tensor->elements; ++i) {
    const uint32_t bits = (uint32_t)((const uint16_t *)tensor->data)[i] << 16;
    memcpy(&tensor->values[i], &bits, sizeof bits);
  }
}

void tensor_free(tensor_t *tensor) {
  if (tensor->values != tensor->data)
    free(tensor->values);
  free(tensor->data);
}

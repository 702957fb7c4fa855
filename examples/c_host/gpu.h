/* Memory on the first GPU through the CUDA driver, opened at run time: the program links no CUDA
 * library and starts where there is none. A real host has its own memory; this is all it takes. */
#ifndef C_HOST_GPU_H
#define C_HOST_GPU_H

#include <stddef.h>

typedef unsigned long long gpu_address_t;

/* Makes the GPU's primary context current, which is then what a session on "cuda:0" uses. 0 and why
 * not in `why` where there is no driver or no GPU. */
int gpu_open(char *why, size_t size);
/* 0 where the driver refuses. Bytes are copied, and everything launched before has ended, when
 * gpu_read returns. */
gpu_address_t gpu_allocate(size_t bytes);
int gpu_write(gpu_address_t to, const void *from, size_t bytes);
int gpu_read(void *to, gpu_address_t from, size_t bytes);
void gpu_free(gpu_address_t address);
void gpu_close(void);

#endif

/* Runs a site of the package that is inside this program, on the CPU. Every value of V is 1, and so
 * has to be every output: the weights of attention sum to 1, whatever Q and K are. */
#include "sample.calibatt.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static int fail(const char *what) {
  fprintf(stderr, "embedded: %s: %s\n", what, calibatt_last_error_message());
  return 1;
}

int main(void) {
  calibatt_package_t *package = NULL;
  calibatt_session_t *session = NULL;
  calibatt_package_info_t info = CALIBATT_INIT(calibatt_package_info_t);
  calibatt_session_options_t options = CALIBATT_INIT(calibatt_session_options_t); /* "host" */
  if (calibatt_open_embedded_sample(&package) != CALIBATT_STATUS_OK ||
      calibatt_package_info(package, &info) != CALIBATT_STATUS_OK)
    return fail("cannot open the package");
  if (calibatt_session_create(package, &options, &session) != CALIBATT_STATUS_OK)
    return fail("cannot make a session");

  const size_t count = (size_t)info.heads * info.tokens * info.head_dim;
  float *tensors = malloc(4 * count * sizeof(float));
  if (!tensors)
    return perror("embedded"), 1;
  float *q = tensors, *k = q + count, *v = k + count, *o = v + count;
  for (size_t i = 0; i < count; i++) {
    q[i] = (float)rand() / (float)RAND_MAX - 0.5f;
    k[i] = (float)rand() / (float)RAND_MAX - 0.5f;
    v[i] = 1;
  }
  calibatt_call_t call = CALIBATT_INIT(calibatt_call_t); /* layer 0, step 0, contiguous */
  call.batch = 1;
  call.tokens = info.tokens;
  call.dtype = CALIBATT_DTYPE_F32;
  call.q = q, call.k = k, call.v = v, call.o = o;
  if (calibatt_attention(session, &call) != CALIBATT_STATUS_OK)
    return fail("cannot compute");
  double worst = 0;
  for (size_t i = 0; i < count; i++)
    worst = fmax(worst, fabs((double)o[i] - 1));
  printf("%s: %u heads x %u tokens from %llu embedded bytes, largest error %.1e: %s\n", info.model,
         info.heads, info.tokens, (unsigned long long)info.file_bytes, worst,
         worst < 1e-5 ? "right" : "WRONG");
  calibatt_session_destroy(session);
  calibatt_package_close(package);
  free(tensors);
  return worst < 1e-5 ? 0 : 1;
}

/* A host program in C11: opens a package, computes the attention of one site on random inputs, on
 * the CPU and on a GPU where there is one, and compares with a float64 reference of its own.
 *
 *   c_host PACKAGE [LAYER HEAD STEP]
 *
 * Exits with 0 where every result is right, 1 where one is not or something failed, 2 on usage. */
#include "gpu.h"
#include "reference.h"
#include "tensor.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* At most so many rows are compared: the reference of a long video takes its time. */
enum { MAX_COMPARED_ROWS = 512 };

typedef struct site {
  calibatt_package_t *package;
  calibatt_package_info_t info;
  uint32_t layer, head, step;
  uint8_t *mask;
  uint32_t grid[3]; /* see calibatt_site_anchors */
} site_t;

/* The tensors of one call, [1, 1, tokens, head_dim], and the log-sum-exp of every row. */
typedef struct inputs {
  tensor_t q, k, v, o, lse;
} inputs_t;

static int failed(const char *what) {
  fprintf(stderr, "c_host: %s: %s\n", what, calibatt_last_error_message());
  return 1;
}

static int parse_index(const char *text, uint32_t *index) {
  char *end;
  const unsigned long value = strtoul(text, &end, 10);
  *index = (uint32_t)value;
  return text[0] >= '0' && text[0] <= '9' && *end == 0 && value < UINT32_MAX;
}

static int open_site(site_t *site, const char *path) {
  site->info = CALIBATT_INIT(calibatt_package_info_t);
  if (calibatt_package_open(path, &site->package) != CALIBATT_STATUS_OK ||
      calibatt_package_info(site->package, &site->info) != CALIBATT_STATUS_OK)
    return failed("cannot open the package");
  const calibatt_package_info_t *info = &site->info;
  const size_t bytes = (size_t)info->blocks * ((info->blocks + 7) / 8);
  site->mask = malloc(bytes);
  if (!site->mask || calibatt_site_mask(site->package, site->layer, site->head, site->step,
                                        site->mask, bytes) != CALIBATT_STATUS_OK)
    return failed("cannot read the site's mask");
  if (calibatt_site_anchors(site->package, site->layer, site->head, site->step, site->grid) !=
      CALIBATT_STATUS_OK)
    return failed("cannot read the site's anchors");
  uint32_t kept = 0;
  for (size_t i = 0; i < bytes; ++i)
    for (unsigned bits = site->mask[i]; bits; bits &= bits - 1)
      ++kept;
  printf("%s: %u tokens, %u layers x %u heads x %u steps, for %s\n", info->model, info->tokens,
         info->layers, info->heads, info->steps, info->archs);
  printf("layer %u, head %u, step %u keeps %u of %u blocks", site->layer, site->head, site->step,
         kept, info->blocks * info->blocks);
  if (site->grid[2])
    printf(", and computes %u of the %u spatial rows of a frame", site->grid[2], site->grid[0]);
  printf("\n");
  return 0;
}

/* A session that serves one head: tensors of its calls have just that one. */
static calibatt_status_t open_session(const site_t *site, const char *device,
                                      calibatt_session_t **session) {
  calibatt_session_options_t options = CALIBATT_INIT(calibatt_session_options_t);
  options.device = device;
  options.head_begin = site->head;
  options.head_count = 1;
  return calibatt_session_create(site->package, &options, session);
}

static calibatt_call_t call_of(const site_t *site, calibatt_dtype_t dtype) {
  calibatt_call_t call = CALIBATT_INIT(calibatt_call_t);
  call.layer = site->layer;
  call.step = site->step;
  call.batch = 1;
  call.tokens = site->info.tokens; /* heads, head_dim, strides, scale: the defaults fit */
  call.dtype = dtype;
  return call;
}

static int attention_on_host(const site_t *site, inputs_t *in) {
  calibatt_session_t *session = NULL;
  if (open_session(site, "host", &session) != CALIBATT_STATUS_OK)
    return failed("cannot make a session on host");
  calibatt_call_t call = call_of(site, in->q.dtype);
  call.q = in->q.data;
  call.k = in->k.data;
  call.v = in->v.data;
  call.o = in->o.data;
  call.lse = in->lse.data;
  const int bad = calibatt_attention(session, &call) != CALIBATT_STATUS_OK ? failed("host") : 0;
  calibatt_session_destroy(session);
  return bad;
}

static int attention_on_gpu(const site_t *site, calibatt_session_t *session, inputs_t *in) {
  tensor_t *tensors[] = {&in->q, &in->k, &in->v, &in->o, &in->lse};
  gpu_address_t copies[5] = {0};
  int bad = 0;
  for (int i = 0; i < 5 && !bad; ++i) {
    copies[i] = gpu_allocate(tensors[i]->bytes);
    bad = !copies[i] || !gpu_write(copies[i], tensors[i]->data, tensors[i]->bytes);
  }
  if (bad)
    fprintf(stderr, "c_host: cuda:0: the inputs do not fit its memory\n");
  calibatt_call_t call = call_of(site, in->q.dtype);
  call.q = (const void *)(uintptr_t)copies[0];
  call.k = (const void *)(uintptr_t)copies[1];
  call.v = (const void *)(uintptr_t)copies[2];
  call.o = (void *)(uintptr_t)copies[3];
  call.lse = (float *)(uintptr_t)copies[4];
  if (!bad && (calibatt_session_prewarm(session, &site->step, 1, 1) != CALIBATT_STATUS_OK ||
               calibatt_attention(session, &call) != CALIBATT_STATUS_OK))
    bad = failed("cuda:0");
  for (int i = 3; i < 5 && !bad; ++i) /* the call is asynchronous; gpu_read waits */
    if (!gpu_read(tensors[i]->data, copies[i], tensors[i]->bytes)) {
      fprintf(stderr, "c_host: cuda:0: the kernel failed\n");
      bad = 1;
    }
  for (int i = 0; i < 5; ++i)
    gpu_free(copies[i]);
  return bad;
}

/* Prints a line of the table; 0 where the result is right. */
static int compare(const site_t *site, const char *device, inputs_t *in) {
  const calibatt_package_info_t *info = &site->info;
  const reference_t reference = {in->q.values,   in->k.values, in->v.values, info->tokens,
                                 info->head_dim, info->block,  info->blocks, info->scale,
                                 site->mask,     site->grid};
  const int bf16 = in->q.dtype == CALIBATT_DTYPE_BF16;
  const uint32_t rows = info->tokens < MAX_COMPARED_ROWS ? info->tokens : MAX_COMPARED_ROWS;
  double *weights = malloc((size_t)info->tokens * sizeof *weights);
  double *wanted = malloc(info->head_dim * sizeof *wanted);
  double error = 0, norm = 0, lse_error = 0;
  int written = weights && wanted;
  if (!written)
    fprintf(stderr, "c_host: out of memory\n");
  tensor_update_values(&in->o);
  for (size_t i = 0; i < in->o.elements && written; ++i)
    written = !isnan(in->o.values[i]);
  for (uint32_t i = 0; i < rows && written; ++i) {
    /* Spread over all tokens; the last one is among them. */
    const uint32_t row = info->tokens - 1 - (uint32_t)((uint64_t)i * info->tokens / rows);
    const double lse = reference_row(&reference, row, weights, wanted);
    for (uint32_t d = 0; d < info->head_dim; ++d) {
      const double difference = in->o.values[(size_t)row * info->head_dim + d] - wanted[d];
      error += difference * difference;
      norm += wanted[d] * wanted[d];
    }
    lse_error = fmax(lse_error, fabs(in->lse.values[row] - lse));
  }
  free(weights);
  free(wanted);
  const double relative = sqrt(error / norm);
  const int right = written && relative < (bf16 ? 6e-3 : 1e-5) && lse_error < 1e-3;
  if (written)
    printf("  %-6s  %-4s  %u rows, relative RMS %.1e, log-sum-exp within %.1e: %s\n", device,
           bf16 ? "bf16" : "f32", rows, relative, lse_error, right ? "right" : "WRONG");
  else
    printf("  %-6s  %-4s  some of the output was not written: WRONG\n", device,
           bf16 ? "bf16" : "f32");
  return !right;
}

/* Fresh inputs, one call, one line. `session` is on cuda:0; null: on the host. */
static int check(const site_t *site, calibatt_session_t *session, calibatt_dtype_t dtype,
                 uint64_t *random) {
  const size_t elements = (size_t)site->info.tokens * site->info.head_dim;
  inputs_t in = {tensor_random(dtype, elements, random), tensor_random(dtype, elements, random),
                 tensor_random(dtype, elements, random), tensor_poisoned(dtype, elements),
                 tensor_poisoned(CALIBATT_DTYPE_F32, site->info.tokens)};
  int bad = session ? attention_on_gpu(site, session, &in) : attention_on_host(site, &in);
  if (!bad)
    bad = compare(site, session ? "cuda:0" : "host", &in);
  tensor_free(&in.q);
  tensor_free(&in.k);
  tensor_free(&in.v);
  tensor_free(&in.o);
  tensor_free(&in.lse);
  return bad;
}

/* 0 also where there is no GPU this package runs on, which it then says. */
static int check_gpu(const site_t *site, uint64_t *random) {
  char why[256];
  if (!gpu_open(why, sizeof why)) {
    printf("  cuda:0  not run: %s\n", why);
    return 0;
  }
  calibatt_session_t *session = NULL;
  const calibatt_status_t status = open_session(site, "cuda:0", &session);
  int bad = 0;
  if (status == CALIBATT_STATUS_OK)
    bad = check(site, session, CALIBATT_DTYPE_BF16, random);
  else if (status == CALIBATT_STATUS_NO_DEVICE || status == CALIBATT_STATUS_UNSUPPORTED_DEVICE)
    printf("  cuda:0  not run: %s\n", calibatt_last_error_message());
  else
    bad = failed("cannot make a session on cuda:0");
  calibatt_session_destroy(session);
  gpu_close();
  return bad;
}

int main(int argc, char **argv) {
  site_t site = {0};
  if ((argc != 2 && argc != 5) ||
      (argc == 5 && (!parse_index(argv[2], &site.layer) || !parse_index(argv[3], &site.head) ||
                     !parse_index(argv[4], &site.step)))) {
    fprintf(stderr, "usage: c_host PACKAGE [LAYER HEAD STEP]\n");
    return 2;
  }
  uint64_t random = (uint64_t)time(NULL) * 2 + 1; /* odd: xorshift may not start at zero */
  int bad = open_site(&site, argv[1]);
  if (!bad) {
    printf("calibatt %s, random inputs of seed %llu\n", calibatt_version(),
           (unsigned long long)random);
    bad |= check(&site, NULL, CALIBATT_DTYPE_F32, &random);
    bad |= check(&site, NULL, CALIBATT_DTYPE_BF16, &random);
    bad |= check_gpu(&site, &random);
    printf("%s\n", bad ? "FAILED" : "passed");
  }
  free(site.mask);
  calibatt_package_close(site.package);
  return bad;
}

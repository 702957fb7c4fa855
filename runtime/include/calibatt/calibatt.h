/* The C ABI of CalibAtt: open a package, make a session on a device, compute attention.
 *
 * Every function that returns calibatt_status_t leaves a sentence for calibatt_last_error_message()
 * of the same thread when it fails. Nothing throws, aborts or prints. Structs begin with their own
 * size: set struct_size (CALIBATT_INIT does) and zero the rest; zero always means "the default".
 */
#ifndef CALIBATT_CALIBATT_H
#define CALIBATT_CALIBATT_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define CALIBATT_API __attribute__((visibility("default")))
#else
#define CALIBATT_API
#endif

/** The version this header is of; calibatt_version() tells the library's. Of two versions, the
 * later one has the larger CALIBATT_VERSION. */
#define CALIBATT_VERSION_MAJOR 0
#define CALIBATT_VERSION_MINOR 1
#define CALIBATT_VERSION_PATCH 0
#define CALIBATT_VERSION                                                                           \
  (CALIBATT_VERSION_MAJOR * 1000000 + CALIBATT_VERSION_MINOR * 1000 + CALIBATT_VERSION_PATCH)

#ifdef __cplusplus
extern "C" {
#endif

/** What a call came to. Values never change meaning; new ones are added at the end. */
typedef enum calibatt_status {
  CALIBATT_STATUS_OK = 0,
  /** A null pointer, an unknown struct size or dtype, a range that makes no sense: fix the caller.
   */
  CALIBATT_STATUS_INVALID_ARGUMENT = 1,
  /** The package is missing, damaged, or of a version this library does not read. */
  CALIBATT_STATUS_BAD_PACKAGE = 2,
  /** The call does not fit the package or the device: length, layer, step, head count, strides,
   * scale, a dtype that the device does not take. */
  CALIBATT_STATUS_MISMATCH = 3,
  /** The device asked for is not there: no libcuda.so.1, no such GPU, no context. */
  CALIBATT_STATUS_NO_DEVICE = 4,
  /** The driver is older than the package's code needs, or the GPU is of another architecture. */
  CALIBATT_STATUS_UNSUPPORTED_DEVICE = 5,
  /** The stream is being captured and the call would have to load or upload: prewarm first, which
     may be done under capture too. */
  CALIBATT_STATUS_NOT_PREWARMED = 6,
  /** Device memory, or the session's byte budget, does not suffice. */
  CALIBATT_STATUS_OUT_OF_MEMORY = 7,
  /** The CUDA driver returned an error; the message has its name. */
  CALIBATT_STATUS_DRIVER_ERROR = 8,
  /** A fault of this library: please report it with the message. */
  CALIBATT_STATUS_INTERNAL = 9
} calibatt_status_t;

/** Type of the elements of q, k, v and o. The host device takes both, CUDA devices bf16 only. */
typedef enum calibatt_dtype { CALIBATT_DTYPE_BF16 = 0, CALIBATT_DTYPE_F32 = 1 } calibatt_dtype_t;

/** An open package: immutable, usable from several threads and sessions. */
typedef struct calibatt_package calibatt_package_t;
/** A package on one device, for a range of heads: usable from several threads. */
typedef struct calibatt_session calibatt_session_t;

/** The problem a package was compiled for, and its size. Strings live as long as the package. */
typedef struct calibatt_package_info {
  size_t struct_size;
  const char *model;
  const char *granularity; /**< "step" or "head" */
  const char *dtype;       /**< "bf16" */
  const char *archs;       /**< comma-separated, e.g. "sm_90a" */
  const char *profile_digest;
  uint32_t frames, height, width; /**< patch grid */
  uint32_t tokens, max_text;
  uint32_t layers, heads, steps, head_dim;
  uint32_t block, blocks; /**< tokens a block (128), and blocks a row or column */
  uint32_t min_driver;    /**< CUDA driver API version the code needs, e.g. 13000 */
  uint32_t kernels, code_images, data_images;
  double scale; /**< softmax scale on q.k */
  uint64_t file_bytes;
} calibatt_package_info_t;

/** One step of the denoising schedule that a package's masks were measured on. */
typedef struct calibatt_step {
  size_t struct_size;
  double timestep, sigma; /**< as the scheduler gave them; step 0 is the noisiest */
  const char *module;     /**< which transformer runs it; lives as long as the package */
} calibatt_step_t;

typedef struct calibatt_session_options {
  size_t struct_size;
  /** "host" (also what null means), "cuda" or "cuda:N". */
  const char *device;
  /** The heads of the model this session serves: tensors of its calls hold exactly these. A
   * head_count of 0 means all from head_begin on. */
  uint32_t head_begin, head_count;
  /** Bytes of device memory for schedules and work lists; 0: no limit. When it is exceeded, data of
   * steps that a prewarm does not name and no captured graph uses are released. */
  uint64_t byte_budget;
  /** 0, strict: a call whose layer or step the package has no kernel for is refused. 1: it runs the
   * package's dense kernel (every package has one), which is counted with the reason in
   * calibatt_session_stats_t and told by calibatt_match. That kernel too is compiled for the
   * package's tokens, head_dim and scale: calls with others are refused, and told so. */
  uint32_t allow_dense;
  /** Threads of the host device, and of decoding schedules for a GPU; 0: one per CPU. Where the
   * system gives fewer, those do the work; the calling thread alone, if there are none. */
  uint32_t host_threads;
} calibatt_session_options_t;

/** One attention call. Tensors are [batch, heads, tokens, head_dim], the last dimension contiguous.
 * Memory is the host's for the host device and the GPU's for a CUDA device. */
typedef struct calibatt_call {
  size_t struct_size;
  uint32_t layer, step;
  uint32_t batch;
  uint32_t heads; /**< heads in the tensors; 0: the session's */
  uint32_t tokens;
  uint32_t head_dim; /**< 0: the package's */
  calibatt_dtype_t dtype;
  uint32_t reserved; /**< 0 */
  const void *q, *k, *v;
  void *o; /**< written whole; may not overlap the inputs, nor its rows one another */
  /** Strides of [batch, head, token] in elements, 0 to 2^40; all three zero: contiguous. Inputs may
   * repeat (a stride of 0), on the host device. CUDA: positive multiples of 8 elements and tensors
   * 16-byte aligned. The stride of a dimension that has one entry may be anything. */
  int64_t q_strides[3], k_strides[3], v_strides[3], o_strides[3];
  /** Natural log-sum-exp of the scaled logits over the kept keys, [batch, heads, tokens] float32,
   * tokens contiguous; or null. Strides of [batch, head] in elements; both zero: contiguous. As o
   * it may overlap nothing. */
  float *lse;
  int64_t lse_strides[2];
  /** CUstream to launch on (null: the default stream). The host device ignores it and returns when
   * the output is written. */
  void *stream;
  /** 0: the package's; anything else has to be equal to it (to 1e-6 relative). */
  double scale;
} calibatt_call_t;

/** What calibatt_energy leaves beside o and lse, in memory of the session's device, contiguous.
 * Blocks are of 128 tokens; E[r][c] is the mean over the queries of block r of the attention that
 * goes to the keys of block c, so that a row of E sums to 1. Each output may be null, and may
 * overlap nothing. Energies of a row with a NaN or infinite logit are NaN, as is its lse. */
typedef struct calibatt_energy {
  size_t struct_size;
  /** [batch, heads, blocks] rows of (blocks + 7) / 8 bytes, least significant bit first: of every
   * row the fewest blocks whose energies reach epsilon times the row's sum, ties to the lower
   * column. */
  uint8_t *cover;
  double epsilon;  /**< 0 to 1; of cover */
  float *energies; /**< [batch, heads, blocks, blocks] */
  float *row_max;  /**< [batch, heads, tokens] the largest scaled logit of a row */
  /** [batch, heads] how alike the attention of the spatial rows of a frame is: the median, over all
   * rows that are no anchor, of the cosine with the nearest of the package's anchor rows (5 where
   * it names none); refused where frames have no other rows or there is text. Costs about as much
   * again as the attention. */
  float *repetition;
  /** Not 0: the attention to each key is weighted by the Euclidean norm of its value. Rows then sum
   * to the mean of those norms, and the cover is of that. */
  uint32_t weighted;
  uint32_t reserved; /**< 0 */
  /** CUDA: device memory of at least calibatt_energy_workspace bytes, 256-byte aligned, that no
   * other call in flight uses. The host device needs none. */
  void *workspace;
  uint64_t workspace_bytes;
} calibatt_energy_t;

typedef struct calibatt_session_stats {
  size_t struct_size;
  uint64_t calls;           /**< successful calibatt_attention calls */
  uint64_t launches;        /**< kernels launched, or run by the host device */
  uint64_t dense_fallbacks; /**< calls that ran the dense kernel for want of their own */
  uint64_t device_bytes;    /**< schedules and work lists on the device now */
  uint32_t code_images;     /**< loaded */
  uint32_t data_images;     /**< resident */
  uint32_t tensor_maps;     /**< cached */
  uint32_t reserved;
  char last_fallback_reason[256]; /**< empty where there was none */
  uint64_t evictions; /**< schedules and work lists released to keep within byte_budget */
  uint64_t reruns;    /**< tiles whose frozen maximum did not do, computed a second time */
} calibatt_session_stats_t;

/** Zero-initialises a struct of this header and sets its size. */
#ifdef __cplusplus
#define CALIBATT_INIT(type) (calibattInit<type>())
#else
#define CALIBATT_INIT(type) ((type){.struct_size = sizeof(type)})
#endif

/** Version of the library, e.g. "0.1.0". */
CALIBATT_API const char *calibatt_version(void);
/** The spelling of a status, e.g. "CALIBATT_STATUS_MISMATCH". */
CALIBATT_API const char *calibatt_status_name(calibatt_status_t status);
/** Why the last failed call of this thread failed; empty before the first. Never null. */
CALIBATT_API const char *calibatt_last_error_message(void);

/** Maps and checks a package. *package is set on success only; close it after its sessions. */
CALIBATT_API calibatt_status_t calibatt_package_open(const char *path,
                                                     calibatt_package_t **package);
/** The same of a package in memory, such as one that is embedded into the program; `name` (null:
 * "a package in memory") begins its messages. The bytes stay the caller's: they are not copied, and
 * must not change nor go before the package is closed and its sessions are destroyed. Any
 * alignment. */
CALIBATT_API calibatt_status_t calibatt_package_open_memory(const void *data, size_t size,
                                                            const char *name,
                                                            calibatt_package_t **package);
/** Accepts null. Sessions keep the package alive, so the order of closing does not matter. */
CALIBATT_API void calibatt_package_close(calibatt_package_t *package);
CALIBATT_API calibatt_status_t calibatt_package_info(const calibatt_package_t *package,
                                                     calibatt_package_info_t *info);
/** Tells one step of the package's schedule. MISMATCH where the package has fewer steps, or does
 * not tell its schedule (one of an older format, or made for a shape alone). */
CALIBATT_API calibatt_status_t calibatt_package_step(const calibatt_package_t *package,
                                                     uint32_t step, calibatt_step_t *info);
/** The mask a site's kernel computes (every block where it copies anchor rows): `blocks` rows of
 * (blocks + 7) / 8 bytes, least significant bit first. `bytes` has to be exactly that. */
CALIBATT_API calibatt_status_t calibatt_site_mask(const calibatt_package_t *package, uint32_t layer,
                                                  uint32_t head, uint32_t step, uint8_t *bits,
                                                  size_t bytes);
/** How a site's kernel copies outputs: grid[0] spatial rows of grid[1] tokens a frame, of which
 * only grid[2] anchor rows are computed, anchor i being row (2 * i + 1) * grid[0] / (2 * grid[2]);
 * every other row gets the output and log-sum-exp of the anchor row nearest to it, ties to the
 * lower one. All three are 0 where the kernel computes every row. */
CALIBATT_API calibatt_status_t calibatt_site_anchors(const calibatt_package_t *package,
                                                     uint32_t layer, uint32_t head, uint32_t step,
                                                     uint32_t grid[3]);

/** *session is set on success only. A CUDA session uses the calling thread's current context if it
 * belongs to the device, else the device's primary context. */
CALIBATT_API calibatt_status_t calibatt_session_create(calibatt_package_t *package,
                                                       const calibatt_session_options_t *options,
                                                       calibatt_session_t **session);
/** Accepts null. No call may be in progress, nor a launch in flight, and captured graphs that hold
 * its launches may not be replayed any more. Captures of others go on. */
CALIBATT_API void calibatt_session_destroy(calibatt_session_t *session);

/** Loads the code and uploads the schedules of `count` steps (of all steps where `steps` is null),
 * for calls of `batch` batch entries (0: 1); call it again for another batch size. With allow_dense
 * the dense kernel is among them, and steps may be any. Any thread may do this while streams are
 * captured, also the one that captures: it loads beside the capture and leaves it as it is. */
CALIBATT_API calibatt_status_t calibatt_session_prewarm(calibatt_session_t *session,
                                                        const uint32_t *steps, size_t count,
                                                        uint32_t batch);

/** Computes o (and lse) of one layer and step. A step that was not prewarmed is loaded now, which
 * may wait for launches in flight where the byte budget asks for room. Where the call's own stream
 * is captured that is CALIBATT_STATUS_NOT_PREWARMED instead, and the capture goes on: what a graph
 * holds is loaded when it is asked for, not in passing. */
CALIBATT_API calibatt_status_t calibatt_attention(calibatt_session_t *session,
                                                  const calibatt_call_t *call);

/** Bytes of workspace that calibatt_energy wants for such a call; pointers may be null but for the
 * outputs that are wanted. */
CALIBATT_API calibatt_status_t calibatt_energy_workspace(calibatt_session_t *session,
                                                         const calibatt_call_t *call,
                                                         const calibatt_energy_t *energy,
                                                         uint64_t *bytes);
/** Computes dense attention (o, and lse where it is wanted) and its block energies. The package has
 * to be one of `calibatt compile --calibration` on a GPU, any on the host device; layer and step of
 * the call are only told in messages. Kernels are loaded by the first call, which may not be under
 * capture. */
CALIBATT_API calibatt_status_t calibatt_energy(calibatt_session_t *session,
                                               const calibatt_call_t *call,
                                               const calibatt_energy_t *energy);

/** Whether calibatt_attention would take the call: returns its status, and writes in words what
 * would run, or its message, to `text` (at most `size` bytes with the terminating zero; may be
 * null). Only what running alone can show is not known here: device memory, an error of the driver,
 * damage in the package. q, k, v and o may be null; those that are not are checked, and not read.
 * `session` may be null: then the package is asked, for a session of all heads that is strict, on
 * any device. Where both are given, the session has to be of the package. */
CALIBATT_API calibatt_status_t calibatt_match(const calibatt_package_t *package,
                                              const calibatt_session_t *session,
                                              const calibatt_call_t *call, char *text, size_t size);

CALIBATT_API calibatt_status_t calibatt_session_stats(const calibatt_session_t *session,
                                                      calibatt_session_stats_t *stats);

#ifdef __cplusplus
} /* extern "C" */

template <typename T> constexpr T calibattInit() {
  T value{};
  value.struct_size = sizeof(T);
  return value;
}
#endif

#endif /* CALIBATT_CALIBATT_H */

/* The C ABI of calibration: counts of which blocks every prompt needed, and the profile made of
 * them. libcalibatt_profile needs no GPU; whatever runs the model brings block energies, or Q and
 * K.
 *
 *   open counts -> for every prompt: begin, add every layer and step, commit -> select a profile
 *
 * Every function that returns calibatt_profile_status_t leaves a sentence for
 * calibatt_profile_last_error_message() of the same thread when it fails. Nothing throws, aborts or
 * prints. Structs begin with their own size: set struct_size (CALIBATT_PROFILE_INIT does) and zero
 * the rest; zero always means "the default". Calls on one handle may come from several threads, and
 * are done one after another.
 */
#ifndef CALIBATT_PROFILE_H
#define CALIBATT_PROFILE_H

#include <stddef.h>
#include <stdint.h>

#ifndef CALIBATT_API
#if defined(__GNUC__)
#define CALIBATT_API __attribute__((visibility("default")))
#else
#define CALIBATT_API
#endif
#endif

/** The version this header is of; calibatt_profile_version() tells the library's. Of two versions,
 * the later one has the larger CALIBATT_PROFILE_VERSION. */
#define CALIBATT_PROFILE_VERSION_MAJOR 0
#define CALIBATT_PROFILE_VERSION_MINOR 1
#define CALIBATT_PROFILE_VERSION_PATCH 0
#define CALIBATT_PROFILE_VERSION                                                                   \
  (CALIBATT_PROFILE_VERSION_MAJOR * 1000000 + CALIBATT_PROFILE_VERSION_MINOR * 1000 +              \
   CALIBATT_PROFILE_VERSION_PATCH)

#ifdef __cplusplus
extern "C" {
#endif

/** What a call came to. Values never change meaning; new ones are added at the end. */
typedef enum calibatt_profile_status {
  CALIBATT_PROFILE_STATUS_OK = 0,
  /** A null pointer, an unknown struct size, a number out of range: fix the caller. */
  CALIBATT_PROFILE_STATUS_INVALID_ARGUMENT = 1,
  /** A file is missing, damaged, not of this kind, or of a version this library does not read. */
  CALIBATT_PROFILE_STATUS_BAD_FILE = 2,
  /** The counts were made for something else (model, grid, steps, eps ...), the prompt is counted
   * already, or it would be the 256th. */
  CALIBATT_PROFILE_STATUS_MISMATCH = 3,
  /** Another process has the counts open; the message has its pid. */
  CALIBATT_PROFILE_STATUS_BUSY = 4,
  /** NaN, infinity, or energies that are no attention; the message has layer, step and head. The
   * prompt cannot be committed: abandon it and go on with the next. */
  CALIBATT_PROFILE_STATUS_BAD_VALUES = 5,
  /** Reading or writing failed: a full disk, a file system's limit. */
  CALIBATT_PROFILE_STATUS_STORAGE = 6,
  CALIBATT_PROFILE_STATUS_OUT_OF_MEMORY = 7,
  /** A fault of this library: please report it with the message. */
  CALIBATT_PROFILE_STATUS_INTERNAL = 8
} calibatt_profile_status_t;

/** Type of the elements of Q and K as the model has them. */
typedef enum calibatt_profile_dtype {
  CALIBATT_PROFILE_DTYPE_BF16 = 0,
  CALIBATT_PROFILE_DTYPE_F32 = 1,
  CALIBATT_PROFILE_DTYPE_F16 = 2
} calibatt_profile_dtype_t;

/** An open counts file. */
typedef struct calibatt_counts calibatt_counts_t;

/** What the counts are of. Two calibrations can be merged where all of it is equal. */
typedef struct calibatt_counts_problem {
  size_t struct_size;
  const char *model;              /**< id, free text */
  uint32_t frames, height, width; /**< patch grid of the video tokens */
  uint32_t max_text;              /**< joint text tokens after the video, 0: none */
  uint32_t layers, heads, steps;
  uint32_t head_dim; /**< 64 or 128 */
  calibatt_profile_dtype_t dtype;
  uint32_t anchors;           /**< anchor rows a frame; 0: 5 */
  const double *timesteps;    /**< [steps], entry 0 the noisiest; null: all 0 */
  const double *sigmas;       /**< [steps]; null: all 0 */
  const char *const *modules; /**< [steps] which transformer runs it; null: "transformer" */
  double scale;               /**< of the logits; 0: 1 / sqrt(head_dim) */
  /** eps(t) = a + (c - a) exp(-k t / steps); all three 0: by tokens and number of steps. */
  double eps_a, eps_c, eps_k;
} calibatt_counts_problem_t;

/** State of open counts. `model` lives as long as the handle. */
typedef struct calibatt_counts_info {
  size_t struct_size;
  const char *model;
  uint32_t frames, height, width, max_text;
  uint32_t layers, heads, steps, head_dim;
  uint32_t blocks; /**< B: query blocks and key blocks of 128 tokens */
  uint32_t anchors;
  uint32_t prompts;     /**< folded in */
  uint32_t prompt_open; /**< 1 between begin and commit or abandon */
  uint32_t recovered;   /**< 1 where opening finished a prompt that a killed run had committed */
  uint32_t reserved;
  uint64_t sites;       /**< layers x heads x steps */
  uint64_t sites_added; /**< of the open prompt */
  double scale, eps_a, eps_c, eps_k;
  /** Kept blocks of the covers / all blocks: mean over what was folded in and added so far. */
  double density;
} calibatt_counts_info_t;

/** What one layer and step of the open prompt measured, for a range of heads. */
typedef struct calibatt_site_energies {
  size_t struct_size;
  uint32_t layer, step;
  uint32_t head_begin, head_count; /**< a count of 0: all heads from head_begin on */
  /** [head_count, B, B] share of the attention of a query block that falls into a key block; a row
   * sums to 1. Rows of text beyond the prompt's own may be zero. */
  const float *energies;
  /** [head_count, B, (B + 7) / 8] the minimum cover of every row at calibatt_counts_epsilon(), bits
   * least significant first; null: found here, from the energies. */
  const uint8_t *cover;
  const float *repetition; /**< [head_count] scores, -1 to 1 */
  const float *row_max;    /**< [head_count] largest scaled logit, nats; null: 0 */
} calibatt_site_energies_t;

typedef struct calibatt_select_options {
  size_t struct_size;
  double rho;   /**< keep a block where count >= rho * prompts; 0: 0.5 */
  double gamma; /**< repetitive where the score >= gamma; 0: 0.87 */
  /** Half the width of the band around rho in which a block follows the step before; 0: off. */
  double hysteresis;
  /** Isolated blocks whose mean energy is under this times 1 / B are dropped; 0: off. */
  double singletons;
  const char *model; /**< id to write instead of the counts'; null: theirs */
  uint32_t threads;  /**< 0: one a core */
  uint32_t reserved;
} calibatt_select_options_t;

/** What a selection came to: means over the sites that are not repetitive, but for
 * `computed`. */
typedef struct calibatt_select_result {
  size_t struct_size;
  uint64_t sites, repetitive_sites;
  double density, kept_mass;
  double computed;        /**< visits of key blocks over those of dense attention, of all sites */
  double hysteresis_mass; /**< kept mass the rule cost; negative where it kept more */
  double singletons_mass;
} calibatt_select_result_t;

/** Q and K of some heads of one prompt, layer and step; element (h, t, d) of q is at
 * q[h * q_strides[0] + t * q_strides[1] + d]. */
typedef struct calibatt_qk {
  size_t struct_size;
  const void *q, *k;    /**< after the rotary embedding; bf16 or f32, memory of the host */
  int64_t q_strides[2]; /**< of [head, token] in elements; both 0: contiguous */
  int64_t k_strides[2];
  calibatt_profile_dtype_t dtype; /**< bf16 or f32 */
  uint32_t heads, head_dim;
  uint32_t frames, height, width; /**< patch grid */
  uint32_t max_text;              /**< joint text tokens after the video, 0: none */
  uint32_t text;                  /**< this prompt's text tokens, at most max_text */
  uint32_t anchors;               /**< 0: 5 */
  double scale;                   /**< 0: 1 / sqrt(head_dim) */
  uint32_t threads;               /**< 0: one a core */
  uint32_t reserved;
  float *energies;   /**< out, [heads, B, B] */
  float *repetition; /**< out, [heads]; null: not wanted (it takes half of the time) */
  float *row_max;    /**< out, [heads], nats; or null */
  float *lse;        /**< out, [heads, tokens + text], natural log; or null */
} calibatt_qk_t;

/** Zero-initialises a struct of this header and sets its size. */
#ifdef __cplusplus
#define CALIBATT_PROFILE_INIT(type) (calibattProfileInit<type>())
#else
#define CALIBATT_PROFILE_INIT(type) ((type){.struct_size = sizeof(type)})
#endif

/** Version of the library, e.g. "0.1.0". */
CALIBATT_API const char *calibatt_profile_version(void);
/** The spelling of a status, e.g. "CALIBATT_PROFILE_STATUS_BUSY". */
CALIBATT_API const char *calibatt_profile_status_name(calibatt_profile_status_t status);
/** Why the last failed call of this thread failed; empty before the first. Never null. */
CALIBATT_API const char *calibatt_profile_last_error_message(void);

/** Opens the counts at `path` for writing, or creates them where there are none. A prompt that a
 * killed run had committed is folded in first; one that it had only begun is forgotten. `problem`
 * is compared with what the file says, field by field; null: take the file's, which must exist.
 * *counts is set on success only. */
CALIBATT_API calibatt_profile_status_t calibatt_counts_open(
    const char *path, const calibatt_counts_problem_t *problem, calibatt_counts_t **counts);
/** Accepts null. A prompt that is open is abandoned. */
CALIBATT_API void calibatt_counts_close(calibatt_counts_t *counts);
CALIBATT_API calibatt_profile_status_t calibatt_counts_info(calibatt_counts_t *counts,
                                                            calibatt_counts_info_t *info);
/** The id of a folded prompt, in the order of their bytes; index < prompts. The string lives until
 * the next prompt is committed. */
CALIBATT_API calibatt_profile_status_t calibatt_counts_prompt(calibatt_counts_t *counts,
                                                              uint32_t index, const char **id);
/** *has becomes 1 where a prompt of this id is folded in, else 0. */
CALIBATT_API calibatt_profile_status_t calibatt_counts_has_prompt(calibatt_counts_t *counts,
                                                                  const char *id, int *has);
/** What share of a row's energy a cover keeps at `step`. */
CALIBATT_API calibatt_profile_status_t calibatt_counts_epsilon(calibatt_counts_t *counts,
                                                               uint32_t step, double *epsilon);
/** density[heads]: kept blocks of the covers / all blocks, mean over the folded prompts and the
 * open one's where it has the site; 0 where there is neither. */
CALIBATT_API calibatt_profile_status_t calibatt_counts_density(calibatt_counts_t *counts,
                                                               uint32_t layer, uint32_t step,
                                                               float *density);

/** Starts a prompt: 1 to 1023 bytes of UTF-8, without line ends, that no folded prompt has. */
CALIBATT_API calibatt_profile_status_t calibatt_counts_begin_prompt(calibatt_counts_t *counts,
                                                                    const char *id);
/** Adds sites of the open prompt, each once, in any order. */
CALIBATT_API calibatt_profile_status_t calibatt_counts_add(calibatt_counts_t *counts,
                                                           const calibatt_site_energies_t *site);
/** Writes the prompt to disk as a whole and folds it in; all sites must have been added. Where
 * folding fails (a full disk), the prompt is kept, and opening the counts again goes on with it. */
CALIBATT_API calibatt_profile_status_t calibatt_counts_commit_prompt(calibatt_counts_t *counts);
/** Forgets the open prompt; none needs to be open. */
CALIBATT_API calibatt_profile_status_t calibatt_counts_abandon_prompt(calibatt_counts_t *counts);

/** Selects masks and writes a profile; at least one prompt is folded in, none is open. `options`
 * and `result` may be null. */
CALIBATT_API calibatt_profile_status_t
calibatt_counts_select(calibatt_counts_t *counts, const calibatt_select_options_t *options,
                       const char *profile_path, calibatt_select_result_t *result);

/** Block energies, repetition scores, row maxima and log-sum-exp on the CPU, exactly: softmax and
 * sums in float64. BAD_VALUES where Q or K has a NaN or infinity. */
CALIBATT_API calibatt_profile_status_t calibatt_block_energies(const calibatt_qk_t *qk);

#ifdef __cplusplus
} /* extern "C" */

template <typename T> constexpr T calibattProfileInit() {
  T value{};
  value.struct_size = sizeof(T);
  return value;
}
#endif

#endif /* CALIBATT_PROFILE_H */

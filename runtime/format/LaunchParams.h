// The one parameter struct of every kernel: filled by the runtime, read by the
// device. Also compiled for the device (NVRTC): no includes.
#pragma once

namespace calibatt {

/// A CUtensorMap: 128 opaque bytes, 64-byte aligned.
struct alignas(64) TensorMap {
  unsigned long long words[16];
};

/// Passed by value as the only (`const __grid_constant__`) kernel parameter.
/// Grid: work_count CTAs of 384 threads, of a persistent kernel as many as work_begin has
/// lists; dynamic shared memory from the package.
///
/// Tensor maps, all bf16, SWIZZLE_128B, element strides 1, OOB fill 0,
/// rank 5, dims (64, tokens, head_dim / 64, heads, batch), byte strides
/// (row, 128, head, batch); a box of q, k, v is (64, 128, head_dim / 64, 1, 1),
/// a box of o is (64, 64, 1, 1, 1).
struct LaunchParams {
  TensorMap q, k, v, o;
  /// Q and O themselves, for the rows that no box of 128 tokens holds: those of repetitive heads.
  /// Strides of batch, head, token in bytes, multiples of 16.
  const unsigned char *q_data;
  unsigned char *o_data;
  long long q_strides[3], o_strides[3];
  const unsigned char *schedule; ///< data image, or null: use the built-in symbol
  const unsigned *work;          ///< work_count words of packWork, in launch order
  /// Persistent kernels: CTA c computes work[work_begin[c]] to work[work_begin[c + 1] - 1]; null
  /// for one tile a CTA. Other kernels do not read it.
  const unsigned *work_begin;
  float *lse;                 ///< natural log-sum-exp, or null
  long long lse_batch_stride; ///< in elements
  long long lse_head_stride;  ///< in elements; tokens are contiguous
  unsigned work_count;
  unsigned head_base; ///< schedule head = work head - head_base
  /// Persistent kernels with a frozen maximum add the tiles that they computed a second time; or
  /// null. Kernels of packages before 3.0 do not read it.
  unsigned long long *reruns;
};

} // namespace calibatt

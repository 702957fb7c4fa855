#include "runtime/src/CallCheck.h"

#include <fmt/format.h>

#include <cmath>

namespace calibatt {
namespace {

// The largest offset of a tensor has to stay far from overflow.
constexpr int64_t kMaxStride = int64_t(1) << 40;
constexpr const char *kDims[] = {"batch", "head", "token"};

std::string place(const calibatt_call_t &call) {
  return fmt::format("layer {}, step {}", call.layer, call.step);
}

Outcome mismatch(const calibatt_call_t &call, std::string text) {
  return {CALIBATT_STATUS_MISMATCH, place(call) + ": " + std::move(text)};
}

Outcome checkStrides(const calibatt_call_t &call, const char *name, int64_t (&strides)[3],
                     bool written) {
  const int64_t extents[3] = {call.batch, call.heads, call.tokens};
  if (strides[0] == 0 && strides[1] == 0 && strides[2] == 0) {
    strides[2] = call.head_dim;
    strides[1] = strides[2] * call.tokens;
    strides[0] = strides[1] * call.heads;
  }
  for (int d = 0; d < 3; ++d) {
    if (extents[d] == 1) {
      strides[d] = 0;
      continue;
    }
    if (strides[d] < 0 || strides[d] > kMaxStride)
      return mismatch(call, fmt::format("{} has {} stride {}, wanted 0 to 2^40 elements", name,
                                        kDims[d], strides[d]));
    if (written && strides[d] < call.head_dim)
      return mismatch(call, fmt::format("{} has {} stride {}, so that its rows of {} elements "
                                        "overlap",
                                        name, kDims[d], strides[d], call.head_dim));
  }
  return {};
}

} // namespace

Outcome checkCall(const PackageReader &package, HeadRange heads, const calibatt_call_t &given,
                  CheckedCall &checked) {
  const Problem &problem = package.manifest().problem;
  checked.call = given;
  checked.heads = heads;
  calibatt_call_t &call = checked.call;
  if (call.batch == 0 || call.batch >= kMaxBatch)
    return mismatch(
        call, fmt::format("the call has batch {}, wanted 1 to {}", call.batch, kMaxBatch - 1));
  if (call.heads == 0)
    call.heads = heads.count;
  if (call.heads != heads.count)
    return mismatch(call,
                    fmt::format("the call has {} heads, the session serves {} (heads {} to {} "
                                "of the package's {})",
                                call.heads, heads.count, heads.begin, heads.begin + heads.count - 1,
                                problem.heads));
  if (call.tokens != problem.tokens)
    return mismatch(call, fmt::format("package has grid {}x{}x{} ({} tokens), call has {} tokens",
                                      problem.frames, problem.height, problem.width, problem.tokens,
                                      call.tokens));
  if (call.head_dim == 0)
    call.head_dim = problem.headDim;
  if (call.head_dim != problem.headDim)
    return mismatch(
        call, fmt::format("package has head_dim {}, call has {}", problem.headDim, call.head_dim));
  if (call.dtype != CALIBATT_DTYPE_BF16 && call.dtype != CALIBATT_DTYPE_F32)
    return mismatch(
        call, fmt::format("the call has dtype {}, wanted bf16 (0) or f32 (1)", int(call.dtype)));
  if (call.scale == 0)
    call.scale = problem.scale;
  if (!(std::abs(call.scale - problem.scale) <= 1e-6 * std::abs(problem.scale)))
    return mismatch(call, fmt::format("package was compiled for scale {}, call has {}",
                                      problem.scale, call.scale));
  call.scale = problem.scale;

  Outcome outcome;
  if (!(outcome = checkStrides(call, "q", call.q_strides, false)).ok() ||
      !(outcome = checkStrides(call, "k", call.k_strides, false)).ok() ||
      !(outcome = checkStrides(call, "v", call.v_strides, false)).ok() ||
      !(outcome = checkStrides(call, "o", call.o_strides, true)).ok())
    return outcome;
  if (call.lse_strides[0] == 0 && call.lse_strides[1] == 0) {
    call.lse_strides[1] = call.tokens;
    call.lse_strides[0] = call.lse_strides[1] * call.heads;
  }
  const int64_t extents[2] = {call.batch, call.heads};
  for (int d = 0; d < 2; ++d)
    if (extents[d] > 1 && (call.lse_strides[d] < call.tokens || call.lse_strides[d] > kMaxStride))
      return mismatch(call, fmt::format("lse has {} stride {}, wanted at least {} elements",
                                        kDims[d], call.lse_strides[d], call.tokens));
  return {};
}

Outcome checkSite(const PackageReader &package, const calibatt_call_t &call) {
  const Problem &problem = package.manifest().problem;
  if (call.layer >= problem.layers)
    return mismatch(call,
                    fmt::format("the package has no kernel for layer {}: it has layers 0 to {}",
                                call.layer, problem.layers - 1));
  if (call.step >= problem.steps)
    return mismatch(call, fmt::format("the package has no kernel for step {}: it has steps 0 to {}",
                                      call.step, problem.steps - 1));
  return {};
}

Outcome checkPointers(const calibatt_call_t &call) {
  const void *pointers[] = {call.q, call.k, call.v, call.o};
  const char *names[] = {"q", "k", "v", "o"};
  for (int i = 0; i < 4; ++i)
    if (!pointers[i])
      return {CALIBATT_STATUS_INVALID_ARGUMENT, place(call) + ": " + names[i] + " is null"};
  return {};
}

} // namespace calibatt

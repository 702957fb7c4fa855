#include "runtime/src/CallCheck.h"

#include "runtime/format/Quantity.h"
#include "runtime/src/CallMemory.h"

#include <fmt/format.h>

#include <cmath>
#include <cstring>

namespace calibatt {
namespace {

std::string place(const calibatt_call_t &call) {
  return fmt::format("layer {}, step {}", call.layer, call.step);
}

Outcome mismatch(const calibatt_call_t &call, std::string text) {
  return {CALIBATT_STATUS_MISMATCH, place(call) + ": " + std::move(text)};
}

// q, k, v, o and lse of a call whose shape and type are right.
struct CallTensors {
  explicit CallTensors(calibatt_call_t &call) {
    const uint32_t bytes = call.dtype == CALIBATT_DTYPE_BF16 ? 2 : 4;
    const std::array<int64_t, 3> extents{call.batch, call.heads, call.tokens};
    all = {{{"q", call.q, bytes, call.head_dim, extents, call.q_strides},
            {"k", call.k, bytes, call.head_dim, extents, call.k_strides},
            {"v", call.v, bytes, call.head_dim, extents, call.v_strides},
            {"o", call.o, bytes, call.head_dim, extents, call.o_strides},
            {"lse", call.lse, 4, call.tokens, extents, call.lse_strides, 2}}};
  }
  static constexpr size_t kOutputs = 3; // from here on
  std::array<CallTensor, 5> all;
};

} // namespace

Outcome checkCompiledFor(const PackageReader &package, calibatt_call_t &call) {
  const Problem &problem = package.manifest().problem;
  if (call.tokens != problem.tokens)
    return mismatch(call, fmt::format("package has grid {}x{}x{} ({} tokens), call has {} tokens",
                                      problem.frames, problem.height, problem.width, problem.tokens,
                                      call.tokens));
  if (call.head_dim == 0)
    call.head_dim = problem.headDim;
  if (call.head_dim != problem.headDim)
    return mismatch(
        call, fmt::format("package has head_dim {}, call has {}", problem.headDim, call.head_dim));
  if (call.scale == 0)
    call.scale = problem.scale;
  if (!(std::abs(call.scale - problem.scale) <= 1e-6 * std::abs(problem.scale)))
    return mismatch(call, fmt::format("package was compiled for scale {}, call has {}",
                                      problem.scale, call.scale));
  call.scale = problem.scale;
  return {};
}

Outcome checkCall(const PackageReader &package, HeadRange heads, const calibatt_call_t &given,
                  CheckedCall &checked) {
  const Problem &problem = package.manifest().problem;
  checked.call = given;
  checked.heads = heads;
  calibatt_call_t &call = checked.call;
  if (call.reserved != 0)
    return {CALIBATT_STATUS_INVALID_ARGUMENT,
            place(call) + fmt::format(": reserved is {}, wanted 0", call.reserved)};
  // To C an enumeration is any number; to C++ one of its own.
  int dtype;
  static_assert(sizeof dtype == sizeof call.dtype);
  std::memcpy(&dtype, &call.dtype, sizeof dtype);
  if (dtype != CALIBATT_DTYPE_BF16 && dtype != CALIBATT_DTYPE_F32)
    return {CALIBATT_STATUS_INVALID_ARGUMENT,
            place(call) +
                fmt::format(": the call has dtype {}, wanted bf16 (0) or f32 (1)", dtype)};
  if (call.batch == 0 || call.batch >= kMaxBatch)
    return mismatch(
        call, fmt::format("the call has batch {}, wanted 1 to {}", call.batch, kMaxBatch - 1));
  if (call.heads == 0)
    call.heads = heads.count;
  if (call.heads != heads.count)
    return mismatch(call, fmt::format("the call has {}, wanted {} (heads {} to {} of the package's "
                                      "{})",
                                      counted(call.heads, "head"), heads.count, heads.begin,
                                      heads.begin + heads.count - 1, problem.heads));
  if (Outcome fits = checkCompiledFor(package, call); !fits.ok())
    return fits;

  CallTensors tensors(call);
  for (CallTensor &tensor : tensors.all)
    if (std::string fault = settleStrides(tensor); !fault.empty())
      return mismatch(call, std::move(fault));
  for (size_t i = tensors.kOutputs; i < tensors.all.size(); ++i)
    if (std::string fault = rowsOverlap(tensors.all[i]); !fault.empty())
      return mismatch(call, std::move(fault));
  return {};
}

Outcome checkApart(CheckedCall &checked) {
  const CallTensors tensors(checked.call);
  for (size_t output = tensors.kOutputs; output < tensors.all.size(); ++output)
    for (size_t other = 0; other < output; ++other)
      if (std::string fault = tensorsOverlap(tensors.all[output], tensors.all[other]);
          !fault.empty())
        return mismatch(checked.call, std::move(fault));
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

AnchorGrid calibrationGrid(const Manifest &manifest) {
  return {manifest.problem.height, manifest.problem.width, manifest.repetition.anchors};
}

Outcome checkEnergy(const PackageReader &package, const calibatt_call_t &call,
                    const calibatt_energy_t &energy) {
  const auto wrong = [&](std::string what) {
    return Outcome{CALIBATT_STATUS_INVALID_ARGUMENT, place(call) + ": " + std::move(what)};
  };
  if (!(energy.epsilon >= 0 && energy.epsilon <= 1))
    return wrong(fmt::format("epsilon is {}, wanted 0 to 1", energy.epsilon));
  if (energy.weighted > 1 || energy.reserved != 0)
    return wrong(fmt::format("weighted is {} and reserved {}, wanted 0 or 1, and 0",
                             energy.weighted, energy.reserved));
  for (const auto &[output, name] :
       {std::pair(energy.energies, "energies"), std::pair(energy.row_max, "row_max"),
        std::pair(energy.repetition, "repetition")})
    if (reinterpret_cast<uintptr_t>(output) % sizeof(float))
      return wrong(fmt::format("{} is at {}, wanted a multiple of 4 bytes", name,
                               static_cast<const void *>(output)));
  const Problem &problem = package.manifest().problem;
  const AnchorGrid grid = calibrationGrid(package.manifest());
  if (energy.repetition && (problem.maxText || !isValid(grid, problem.tokens)))
    return wrong(fmt::format("repetition is asked for, but a grid of {}x{}x{} with {} text tokens "
                             "has no rows to score against {} anchor rows",
                             problem.frames, problem.height, problem.width, problem.maxText,
                             grid.anchors));
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

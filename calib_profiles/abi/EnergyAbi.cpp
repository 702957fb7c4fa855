// calibatt_block_energies: heads of a model's own tensors, a thread each.
#include "calib_profiles/Energy.h"
#include "calib_profiles/ParallelFor.h"
#include "calib_profiles/ProfileHeader.h"
#include "calib_profiles/Repetition.h"
#include "calib_profiles/abi/AbiCalls.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <vector>

using namespace calibatt;
using namespace calibatt::abi;

namespace {

constexpr const char *kFunction = "calibatt_block_energies";

float elementAt(const void *data, int64_t index, bool bf16) {
  if (bf16)
    return std::bit_cast<float>(uint32_t(static_cast<const uint16_t *>(data)[index]) << 16);
  return static_cast<const float *>(data)[index];
}

/// One head as float32, [tokens, head_dim]; fails where a value is not finite.
Status gather(const calibatt_qk_t &qk, const char *name, const void *data, const int64_t strides[2],
              uint64_t head, uint64_t tokens, std::vector<float> &values) {
  values.resize(tokens * qk.head_dim);
  const bool bf16 = qk.dtype == CALIBATT_PROFILE_DTYPE_BF16;
  for (uint64_t token = 0; token < tokens; ++token) {
    const int64_t first = int64_t(head) * strides[0] + int64_t(token) * strides[1];
    for (uint32_t d = 0; d < qk.head_dim; ++d) {
      const float value = elementAt(data, first + d, bf16);
      if (!std::isfinite(value))
        return Error{fmt::format("{}: {} at head {}, token {}, channel {}", name,
                                 std::isnan(value) ? "NaN" : "infinity", head, token, d)};
      values[token * qk.head_dim + d] = value;
    }
  }
  return {};
}

/// Everything that is asked of one head.
void measure(const calibatt_qk_t &qk, const ProfileHeader &h, const HeadInput &input,
             uint64_t head) {
  const uint32_t blocks = h.blocks();
  const KeyBlocks keys(input);
  const BlockEnergies energies = blockEnergies(input, keys);
  float *out = qk.energies + head * blocks * blocks;
  std::fill_n(out, size_t(blocks) * blocks, 0.0f); // where the prompt's text ends earlier
  for (uint32_t r = 0; r < energies.blocks; ++r)
    std::copy_n(energies.energies.begin() + long(size_t(r) * energies.blocks), energies.blocks,
                out + size_t(r) * blocks);
  if (qk.row_max)
    qk.row_max[head] = *std::max_element(energies.rowMax.begin(), energies.rowMax.end());
  if (qk.lse)
    std::copy(energies.lse.begin(), energies.lse.end(), qk.lse + head * input.tokens);
  if (qk.repetition)
    qk.repetition[head] =
        float(repetitionScore(input, keys, energies.lse, h.grid, h.criterion.anchors));
}

} // namespace

calibatt_profile_status_t calibatt_block_energies(const calibatt_qk_t *given) {
  return guarded([&] {
    calibatt_qk_t qk{};
    if (const auto status = readStruct(kFunction, given, qk))
      return status;
    if (!qk.q || !qk.k || !qk.energies)
      return nullArgument(kFunction, !qk.q ? "q" : !qk.k ? "k" : "energies");
    auto invalid = [](const std::string &what) {
      return fail(CALIBATT_PROFILE_STATUS_INVALID_ARGUMENT, what);
    };
    if (qk.dtype != CALIBATT_PROFILE_DTYPE_BF16 && qk.dtype != CALIBATT_PROFILE_DTYPE_F32)
      return invalid(fmt::format("{}: dtype is {}, wanted bf16 or f32", kFunction, int(qk.dtype)));
    if (qk.text > qk.max_text)
      return invalid(
          fmt::format("{}: {} text tokens, but max_text is {}", kFunction, qk.text, qk.max_text));
    ProfileHeader h; // has the limits of the profile it becomes
    h.grid = {qk.frames, qk.height, qk.width};
    h.maxText = qk.max_text;
    h.layers = 1;
    h.heads = qk.heads;
    h.headDim = qk.head_dim;
    h.steps.resize(1);
    h.scale = qk.scale != 0 ? qk.scale : 1 / std::sqrt(double(std::max(1u, qk.head_dim)));
    h.criterion.anchors = qk.anchors ? qk.anchors : 5;
    if (Status s = validateHeader(h, kFunction); !s)
      return invalid(s.message());
    const uint64_t tokens = h.grid.tokens() + qk.text;
    for (int64_t *strides : {qk.q_strides, qk.k_strides})
      if (strides[0] == 0 && strides[1] == 0) {
        strides[1] = qk.head_dim;
        strides[0] = int64_t(tokens) * qk.head_dim;
      }
    Status status = parallelFor(qk.heads, qk.threads, [&](uint64_t head) -> Status {
      std::vector<float> q, k;
      if (Status s = gather(qk, "q", qk.q, qk.q_strides, head, tokens, q); !s)
        return s;
      if (Status s = gather(qk, "k", qk.k, qk.k_strides, head, tokens, k); !s)
        return s;
      measure(qk, h, {q, k, tokens, h.headDim, h.scale}, head);
      return {};
    });
    if (!status)
      return fail(CALIBATT_PROFILE_STATUS_BAD_VALUES, status.message());
    return CALIBATT_PROFILE_STATUS_OK;
  });
}

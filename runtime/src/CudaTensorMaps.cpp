#include "runtime/src/CudaTensorMaps.h"

#include <fmt/format.h>

namespace calibatt {
namespace {

// Values of CUDA 13.0's cuda.h.
constexpr int kBfloat16 = 9;
constexpr int kInterleaveNone = 0;
constexpr int kSwizzle128B = 3;
constexpr int kL2Promotion256B = 3;
constexpr int kFillZeros = 0;
constexpr int64_t kMaxStrideElements = int64_t(1) << 39; // 2^40 bytes

} // namespace

Outcome checkDeviceTensor(const DeviceTensor &tensor, const char *name) {
  const char *dims[] = {"batch", "head", "token"};
  const uint32_t extents[] = {tensor.batch, tensor.heads, tensor.tokens};
  for (int d = 0; d < 3; ++d) {
    const int64_t stride = tensor.strides[d];
    if (extents[d] > 1 && (stride <= 0 || stride % 8 || stride >= kMaxStrideElements))
      return {CALIBATT_STATUS_MISMATCH,
              fmt::format("{} has {} stride {}; on a GPU it has to be a positive multiple of 8 "
                          "elements below 2^39",
                          name, dims[d], stride)};
  }
  if (reinterpret_cast<uintptr_t>(tensor.address) % 16)
    return {
        CALIBATT_STATUS_MISMATCH,
        fmt::format("{} is at {}; on a GPU it has to be 16-byte aligned", name, tensor.address)};
  return {};
}

Outcome CudaTensorMaps::get(const DeviceTensor &tensor, const char *name, TensorMap &map) {
  const std::lock_guard lock(mutex);
  if (const auto found = maps.find(tensor); found != maps.end()) {
    map = found->second;
    return {};
  }
  const uint64_t dims[5] = {64, tensor.tokens, tensor.headDim / 64, tensor.heads, tensor.batch};
  // The stride of an extent of 1 is never used, but has to be a valid one.
  const auto bytes = [&](int d, uint32_t extent, uint64_t otherwise) {
    return extent > 1 ? uint64_t(tensor.strides[size_t(d)]) * 2 : otherwise;
  };
  const uint64_t row = bytes(2, tensor.tokens, uint64_t(tensor.headDim) * 2);
  const uint64_t strides[4] = {row, 128, bytes(1, tensor.heads, row), bytes(0, tensor.batch, row)};
  const uint32_t halves = tensor.boxRows == 128 ? tensor.headDim / 64 : 1;
  const uint32_t box[5] = {64, tensor.boxRows, halves, 1, 1};
  const uint32_t ones[5] = {1, 1, 1, 1, 1};
  Outcome encoded =
      driver.check(driver.tensorMapEncodeTiled(
                       &map, kBfloat16, 5, const_cast<void *>(tensor.address), dims, strides, box,
                       ones, kInterleaveNone, kSwizzle128B, kL2Promotion256B, kFillZeros),
                   "cuTensorMapEncodeTiled");
  if (!encoded.ok()) {
    encoded.message = fmt::format("{}: {}", name, encoded.message);
    return encoded;
  }
  if (maps.size() >= kMaxEntries)
    maps.clear();
  maps.emplace(tensor, map);
  return {};
}

uint32_t CudaTensorMaps::size() const {
  const std::lock_guard lock(mutex);
  return uint32_t(maps.size());
}

} // namespace calibatt

// The tensor maps of LaunchParams.h, cached by pointer, shape and strides.
#pragma once

#include "runtime/format/LaunchParams.h"
#include "runtime/src/CudaDriver.h"

#include <array>
#include <map>
#include <mutex>

namespace calibatt {

/// A bf16 tensor [batch, heads, tokens, head_dim] on the device; strides [batch, head, token] in
/// elements, those of extents of 1 ignored.
struct DeviceTensor {
  const void *address = nullptr;
  uint32_t batch = 0, heads = 0, tokens = 0, headDim = 0;
  std::array<int64_t, 3> strides{};
  uint32_t boxRows = 128; ///< 128 to load a tile, 64 to store a warpgroup's half
  auto operator<=>(const DeviceTensor &) const = default;
};

class CudaTensorMaps {
public:
  explicit CudaTensorMaps(const CudaDriver &driver) : driver(driver) {}
  /// `name` begins the message of a failure.
  Outcome get(const DeviceTensor &tensor, const char *name, TensorMap &map);
  uint32_t size() const;

private:
  // Caching allocators hand out the same few addresses again; a caller that never does must not
  // fill the memory.
  static constexpr size_t kMaxEntries = 4096;

  const CudaDriver &driver;
  mutable std::mutex mutex;
  std::map<DeviceTensor, TensorMap> maps;
};

/// Why TMA cannot address the tensor (strides, alignment), naming it; OK where it can.
Outcome checkDeviceTensor(const DeviceTensor &tensor, const char *name);

} // namespace calibatt

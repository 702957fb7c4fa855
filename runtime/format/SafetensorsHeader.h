// The JSON header of a safetensors file, checked before anything of the file is used.
#pragma once

#include "runtime/format/Safetensors.h"

#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace calibatt {

struct SafetensorsHeader {
  std::unordered_map<std::string, std::string> metadata;
  std::vector<TensorEntry> tensors; ///< by offset; they cover the data without holes

  /// `text` is the header of a file in which `dataBytes` bytes follow at `dataBegin`.
  static Result<SafetensorsHeader> parse(std::string_view text, uint64_t dataBegin,
                                         uint64_t dataBytes, const std::string &path);
};

/// "F32 [2, 3]", without the end of what has many dimensions.
std::string shownType(DType dtype, const std::vector<uint64_t> &shape);

} // namespace calibatt

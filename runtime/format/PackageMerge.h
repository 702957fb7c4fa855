// The package of a whole model from its shards, which several machines have compiled.
#pragma once

#include "runtime/format/Result.h"

#include <cstdint>
#include <string>
#include <vector>

namespace calibatt {

/// What a merge came to.
struct MergeSummary {
  uint32_t shards = 0, layers = 0, kernels = 0, codeImages = 0;
  uint64_t packageBytes = 0;
};

/// Writes to `output` the bytes that one compile of the whole profile would have written. Refuses,
/// naming the files: a file that is no shard, shards of another profile, options or toolchain, two
/// of one number, and a set that lacks one. The files may be in any order.
Result<MergeSummary> mergePackages(const std::vector<std::string> &shards,
                                   const std::string &output);

} // namespace calibatt

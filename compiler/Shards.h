// A compile in parts, for several machines: which layers are whose.
#pragma once

#include "compiler/CompileOptions.h"
#include "runtime/format/Result.h"

#include <cstdint>
#include <string>
#include <vector>

namespace calibatt {

class ProfileReader;

/// The layers of a shard, ascending. Every layer is in one shard, every shard has one at least; no
/// shard has many more of them, nor of the blocks they keep, than another. Fails by name where
/// there are more shards than layers.
Result<std::vector<uint32_t>> layersOfShard(const ProfileReader &profile, ShardNumber shard);

/// What of the options shapes the package, as the command line has it: equal texts, equal kernels.
std::string shapingOptions(const CompileOptions &options);

} // namespace calibatt

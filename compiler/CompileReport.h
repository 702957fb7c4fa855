// What a compile came to: as JSON for --report and --json, as text for people.
#pragma once

#include "compiler/CompileOptions.h"
#include "runtime/format/Package.h"

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace calibatt {

/// One code image and the kernels that use it.
struct CodeSummary {
  std::string symbol;
  Form form = Form::Runs;
  uint64_t kernels = 0;
  uint64_t predictedBytes = 0; ///< machine code, from the cost model
  double predictedSeconds = 0; ///< of compiling it
  // From here on: zero in a dry run.
  uint64_t codeBytes = 0, fatbinBytes = 0;
  uint32_t registers = 0, spillStores = 0, spillLoads = 0;
  double seconds = 0; ///< zero where it came from the cache

  /// What the compiler said of it.
  void take(const CodeImage &image);
};

/// One kernel of the package.
struct KernelSummary {
  bool dense = false; ///< the fallback; layer and step mean nothing
  uint32_t layer = 0, step = 0, headBase = 0, heads = 0;
  size_t code = 0; ///< index of CompileReport::codes
  uint64_t sites = 0;
  uint64_t launches = 0;              ///< one a step that it serves; none of the fallback
  uint64_t visits = 0, dataBytes = 0; ///< of one launch; of its schedule
  double predictedMicros = 0;         ///< of one launch
  std::string reason;
};

/// Everything there is to tell.
struct CompileReport {
  std::string profile, output, model, arch, toolchain;
  bool dryRun = false;
  uint32_t layers = 0, heads = 0, steps = 0; ///< layers: those of the shard, where it is one
  std::optional<ShardNumber> shard;
  std::vector<uint32_t> shardLayers; ///< empty where it is none
  uint64_t tokens = 0;
  uint64_t visits = 0;        ///< of all launches: every layer and step once, a batch of one
  double computed = 0;        ///< these over the visits of dense attention
  double predictedMicros = 0; ///< of these launches, by the cost model
  std::vector<CodeSummary> codes;
  std::vector<KernelSummary> kernels;
  uint64_t dataImages = 0, dataBytes = 0; ///< distinct
  /// What is equal and kept once: distinct masks of the profile's sites that are not repetitive,
  /// layer by layer, and after superset passes; rows of the distinct schedules, and distinct ones.
  uint64_t profileMasks = 0, masks = 0, rows = 0, rowClasses = 0;
  uint64_t storedScheduleBytes = 0; ///< of the data images in the package
  uint64_t cachedCodes = 0, cachedLayers = 0;
  /// Of the compile that a dry run stands for, nothing of it cached; and of its package.
  double predictedSeconds = 0;
  uint64_t predictedPackageBytes = 0;
  uint64_t packageBytes = 0;
  double lowerSeconds = 0, compileSeconds = 0, totalSeconds = 0;
  std::vector<std::string> remarks;
  std::vector<std::string> toolFiles; ///< of the toolchain: not in the JSON, for --depfile
};

nlohmann::ordered_json reportJson(const CompileReport &report);
/// A few aligned lines with a final newline.
std::string reportText(const CompileReport &report);

} // namespace calibatt

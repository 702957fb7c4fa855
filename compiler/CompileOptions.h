// The switches of one compile, as the command line has them; no MLIR in here.
#pragma once

#include "runtime/format/Result.h"
#include "runtime/format/ScheduleLayout.h"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace calibatt {

/// One of the parts that a compile is split into.
struct ShardNumber {
  uint32_t index = 1, count = 1; ///< 1 to count
};

/// Of one package.
struct CompileOptions {
  std::string profile;
  std::string output;
  std::string arch = "sm_90a";
  std::optional<Form> form; ///< absent: auto
  bool perHead = false;     ///< one kernel a site, else one a (layer, step)
  uint64_t unrollBudgetBytes = 64 << 10;
  double unrollBudgetSeconds = 10;
  std::string softmax = "auto";     ///< auto, frozen or online
  std::string tuning;               ///< spec fields that are choices: "stages=3"
  std::string tileOrder = "heads";  ///< heads or longest
  double shareStepsTau = 0;         ///< more than 0: steps may share schedules
  uint32_t jobs = 1;                ///< layers lowered, and kernels compiled, at a time
  std::string cacheFolder;          ///< empty: none
  std::optional<ShardNumber> shard; ///< absent: every layer
  std::string dumpFolder;           ///< empty: none; else IR and CUDA text go there
  bool dryRun = false;              ///< lower and count only: no NVRTC, no package
};

/// What a compile tells while it runs. All may be called from any thread, and from
/// several at a time. Remarks are in the report too.
struct CompileReport;

struct CompileEvents {
  std::function<void(std::string_view phase, size_t done, size_t total)> progress;
  /// Warnings of the passes name file, layer, head and step.
  std::function<void(const std::string &line)> warning;
  std::function<void(const std::string &line)> remark; ///< of the whole compile, or a code image
  /// Of a pass, naming layer and head: a model may have thousands.
  std::function<void(const std::string &line)> layerRemark;
  /// The package is on the disk, and only its name is missing: time to write what belongs to it.
  /// Where this fails, the package does not appear. Not in a dry run.
  std::function<Status(const CompileReport &)> beforeOutput;
  /// Asked once the layers are lowered, before any kernel is compiled: a failure ends the compile.
  std::function<Status()> mayCompile;
  const std::atomic<bool> *cancel = nullptr; ///< set: fail soon with "interrupted"

  bool cancelled() const { return cancel && cancel->load(); }
};

} // namespace calibatt

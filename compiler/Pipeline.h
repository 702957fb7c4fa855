// From one layer of a profile to checked kernels and routes: import, the pass
// pipeline, and what a driver wants to know of the result.
#pragma once

#include "runtime/format/ScheduleLayout.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"
#include "mlir/Support/LLVM.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace mlir {
class OpPassManager;
}

namespace calibatt {

class ProfileReader;
struct ProfileHeader;

/// What one kernel covers.
enum class Granularity {
  Step, ///< all heads of a (layer, step)
  Head, ///< one site
};

/// The switches of the pipeline, as the command line has them.
struct PipelineOptions {
  std::optional<Form> form; ///< absent: auto
  Granularity granularity = Granularity::Step;
  uint64_t unrollBudgetBytes = 64 << 10; ///< unrolled code of one kernel (auto)
  double unrollBudgetSeconds = 10;       ///< compile time of one kernel (auto)
  double shareStepsTau = 0;              ///< more than 0: run share-steps
  std::string target = "sm_90a";
  std::string softmax = "auto";    ///< auto, frozen or online
  std::string tuning;              ///< of the spec, as applyTuning() reads it
  std::string tileOrder = "heads"; ///< heads or longest
};

/// Adds every pass after the import, in order.
void buildSattnPipeline(mlir::OpPassManager &manager, const PipelineOptions &options);
/// Registers the passes and the pipeline `sattn-pipeline` with the command line
/// of calibatt-opt.
void registerSattnPipeline();

/// Reads one layer into a new module; loads the dialect into `context`, which
/// should serve this layer only. Failures are diagnostics at a location in the profile.
mlir::FailureOr<mlir::OwningOpRef<mlir::ModuleOp>>
importLayer(const ProfileReader &reader, uint32_t layer, mlir::MLIRContext &context);

/// A module with nothing but the dense fallback kernel (`runs`, all heads, all
/// blocks), ready for the pipeline. Null after a diagnostic.
mlir::OwningOpRef<mlir::ModuleOp> buildDenseModule(const ProfileHeader &header,
                                                   const std::string &profilePath,
                                                   mlir::MLIRContext &context);

/// What the passes had to say to the user (`sattn.remarks`), each a sentence
/// that names its layer.
std::vector<std::string> remarksOf(mlir::ModuleOp module);

/// "P.calib.safetensors: layer 3 head 1 step 7" of an imported location.
std::string describeLocation(mlir::Location location);

/// The module as text without locations; row data are left out unless asked for.
std::string moduleText(mlir::ModuleOp module, bool withRowData = false);

} // namespace calibatt

// What the emitter needs to know of one kernel, as plain data: the only thing
// that crosses from the sattn dialect to CUDA text.
#pragma once

#include "codegen/device/spec.cuh"
#include "runtime/format/ScheduleImage.h"

#include <cstdint>
#include <string>
#include <vector>

namespace calibatt {

/// One kernel to emit. For Runs and Table the schedule is a data image and only
/// `spec`, `form` and `scheduleCapacity` matter, so that a whole model shares
/// one code image a form.
struct KernelPlan {
  AttentionSpec spec;
  Form form = Form::Runs;
  /// Full and Schedule: the key blocks of each row class, in visiting order
  /// (descending; see ScheduleLayout.h). Never empty.
  std::vector<std::vector<uint16_t>> classes;
  /// Full and Schedule: emittedRowClasses() of the schedule, [heads * query_blocks].
  std::vector<uint16_t> rowClass;
  /// Full and Schedule: heads covered by rowClass.
  uint32_t heads = 1;
  /// Runs and Table: size in bytes of the built-in schedule symbol (a size class).
  uint32_t scheduleCapacity = 4096;
};

/// The row classes as the text has them: see kEmittedPackedRow. At most kMaxEmittedClasses.
std::vector<uint16_t> emittedRowClasses(const Schedule &schedule);

/// Name of the `extern "C" __global__` entry: `calibatt_<form>_<hash>`, where the
/// hash covers every field of the plan that changes the code.
std::string kernelSymbol(const KernelPlan &plan);

/// The CUDA C++ translation unit of a plan. A pure function: no clock, no
/// paths, no I/O; equal plans give equal bytes.
std::string emitKernel(const KernelPlan &plan);
/// Whether a text is one that emitKernel() gave this symbol, which has a hash of it in it.
bool isKernelText(const std::string &text, const std::string &symbol, Form form);

} // namespace calibatt

// From a profile to a package: lowers every layer, compiles what is distinct,
// and writes the file.
#pragma once

#include "compiler/CompileOptions.h"
#include "compiler/CompileReport.h"
#include "runtime/format/Result.h"

namespace calibatt {

/// Fails with one message that names the file or the site; then, and when
/// `events.cancel` was set, there is no output file. Equal profiles and options
/// give equal packages, whatever `jobs` and the cache.
Result<CompileReport> compilePackage(const CompileOptions &options, const CompileEvents &events);

} // namespace calibatt

// Compiles the distinct translation units of a package, several at a time,
// through the cache.
#pragma once

#include "compiler/CompileOptions.h"
#include "runtime/format/Package.h"

#include <memory>
#include <string>
#include <vector>

namespace calibatt {

/// One translation unit to compile.
struct KernelSource {
  std::string symbol, cuda;
  Form form = Form::Runs;
  uint32_t dynamicSmem = 0;
  bool persistent = false;
};

/// What the compiles of a package came to.
struct KernelBuildResult {
  std::vector<CodeImage> images; ///< one a source, in their order
  size_t cached = 0;             ///< images that came from the cache
};

/// NVRTC, the fatbin writer and the cache.
class KernelBuild {
public:
  /// Fails by name where the architecture, NVRTC, a fatbin writer or the cache folder is missing.
  static Result<KernelBuild> open(const CompileOptions &options);
  KernelBuild(KernelBuild &&) noexcept;
  ~KernelBuild();

  /// "NVRTC V13.0.88, fatbinary V13.0.85".
  const std::string &toolchain() const;
  /// SHA-256 of everything besides the sources that shapes the code.
  const std::string &toolchainDigest() const;
  /// Files that are part of it: NVRTC and the fatbin writer.
  std::vector<std::string> files() const;
  /// CUDA driver API version the images need, as cuDriverGetVersion has it.
  uint32_t minDriver() const;

  /// The first failure in source order ends it.
  Result<KernelBuildResult> compile(const std::vector<KernelSource> &sources, uint32_t jobs,
                                    const CompileEvents &events) const;

private:
  struct Impl;
  explicit KernelBuild(std::unique_ptr<Impl>);
  std::unique_ptr<Impl> impl;
};

/// Fails by name for an architecture there is no kernel for.
Status checkArchitecture(const std::string &arch);

} // namespace calibatt

// CUDA C++ -> cubin through NVRTC, which is opened at run time. The device
// library is handed over in memory; no file is read or written.
#pragma once

#include "codegen/PtxasReport.h"
#include "codegen/TargetInfo.h"
#include "runtime/format/Result.h"

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace calibatt {

/// What comes out of one compile.
struct CompiledKernel {
  std::vector<uint8_t> cubin;
  std::string ptx;
  PtxasReport report;
  uint32_t codeBytes = 0; ///< machine code of the entry and what it calls
};

/// NVRTC. Safe from several threads.
class CudaCompiler {
public:
  /// Opens libnvrtc ($CALIBATT_NVRTC, a toolkit, NVIDIA's wheels, the loader's
  /// path). Fails in one line that says where it looked, or that it is too old.
  static Result<CudaCompiler> load();
  CudaCompiler(CudaCompiler &&) noexcept;
  CudaCompiler &operator=(CudaCompiler &&) noexcept;
  ~CudaCompiler();

  /// As the compiler itself prints it: "V13.0.88".
  const std::string &version() const;
  uint32_t majorVersion() const;
  /// Path of the library.
  const std::string &file() const;
  /// The options of every compile; with the source, the device library and the
  /// version they decide the output.
  static std::vector<std::string> options(const TargetInfo &target);

  /// Compiles one translation unit whose only entry is `symbol`. The error holds
  /// the compiler's log; a kernel whose wgmma were serialised is an error.
  /// Setting `*cancel` makes it fail when NVRTC next asks: soon, but not within
  /// the last phase of a kernel of many thousand visits, which takes minutes.
  Result<CompiledKernel> compile(const std::string &source, const std::string &symbol,
                                 const TargetInfo &target,
                                 const std::atomic<bool> *cancel = nullptr) const;

private:
  struct Impl;
  explicit CudaCompiler(std::unique_ptr<Impl>);
  std::unique_ptr<Impl> impl;
};

} // namespace calibatt

// cubin -> uncompressed fatbin, through libnvfatbin or the `fatbinary` program.
#pragma once

#include "codegen/TargetInfo.h"
#include "runtime/format/Result.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace calibatt {

/// Wraps cubins; safe from several threads.
class FatbinWriter {
public:
  /// libnvfatbin where there is one, else the program.
  static Result<FatbinWriter> load();
  static Result<FatbinWriter> fromLibrary();
  static Result<FatbinWriter> fromProgram();
  FatbinWriter(FatbinWriter &&) noexcept;
  FatbinWriter &operator=(FatbinWriter &&) noexcept;
  ~FatbinWriter();

  /// "libnvfatbin 13.0" or "fatbinary V13.0.85".
  const std::string &version() const;
  /// Path of the library or program.
  const std::string &file() const;

  /// A fatbin with one image, not compressed: a schedule can be written into it
  /// (runtime/format/CubinPatch.h). Equal cubins give equal bytes.
  Result<std::vector<uint8_t>> write(const std::vector<uint8_t> &cubin,
                                     const TargetInfo &target) const;

private:
  struct Impl;
  explicit FatbinWriter(std::unique_ptr<Impl>);
  std::unique_ptr<Impl> impl;
};

} // namespace calibatt

// Compiled kernels on disk, found by what they were made from. Several
// processes may use one folder.
#pragma once

#include "runtime/format/Package.h"

#include <optional>
#include <string>

namespace calibatt {

/// A folder of entries, one file each, named by their key.
class KernelCache {
public:
  /// Makes the folder where it is missing; fails where it cannot.
  static Result<KernelCache> open(const std::string &folder);

  /// SHA-256 over the source and the description of everything else that
  /// shapes the code (compiler, options, device library), lower-case hex.
  static std::string key(const std::string &source, const std::string &toolchain);

  /// The image, without `cuda`. A missing or damaged entry, or one of another
  /// format, is a miss.
  std::optional<CodeImage> find(const std::string &key) const;
  /// Appears whole or not at all.
  Status store(const std::string &key, const CodeImage &image) const;

private:
  explicit KernelCache(std::string folder) : folder(std::move(folder)) {}
  std::string entryPath(const std::string &key) const;

  std::string folder;
};

} // namespace calibatt

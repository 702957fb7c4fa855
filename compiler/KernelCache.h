// Compiled kernels on disk, found by what they were made from.
#pragma once

#include "runtime/format/ContentStore.h"
#include "runtime/format/Package.h"

#include <optional>
#include <string>

namespace calibatt {

/// The entries of kind "kernel" of a store.
class KernelCache {
public:
  explicit KernelCache(ContentStore store) : store(std::move(store)) {}

  /// SHA-256 over the source and the description of everything else that
  /// shapes the code (compiler, options, device library), lower-case hex.
  static std::string key(const std::string &source, const std::string &toolchain);

  /// The image, without `cuda`. A missing or damaged entry, or one of another
  /// format, is a miss.
  std::optional<CodeImage> find(const std::string &key) const;
  /// Appears whole or not at all, in place of what was there.
  Status put(const std::string &key, const CodeImage &image) const;
  /// Held by whoever compiles the kernel: see ContentStore::lock().
  ContentStore::Lock lock(const std::string &key, const std::atomic<bool> *cancel) const;

private:
  ContentStore store;
};

} // namespace calibatt

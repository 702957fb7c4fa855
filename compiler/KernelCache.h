// Compiled kernels on disk, found by what they were made from.
#pragma once

#include "compiler/KernelBuild.h"
#include "runtime/format/ContentStore.h"
#include "runtime/format/Package.h"

#include <optional>
#include <string>

namespace calibatt {

/// The entries of kind "kernel" of a store, for one toolchain and architecture.
class KernelCache {
public:
  /// `toolchain` describes everything besides the source that shapes the code: compiler, options,
  /// device library.
  KernelCache(ContentStore store, std::string toolchain, std::string arch)
      : store(std::move(store)), toolchain(std::move(toolchain)), arch(std::move(arch)) {}

  /// SHA-256 over the toolchain and the source, lower-case hex.
  std::string key(const KernelSource &source) const;

  /// The image of a source, without `cuda`. What is there and is not that, whole, is a miss, and
  /// `problem` is told what it is: damaged, of other facts, or a cubin without this kernel.
  std::optional<CodeImage> find(const KernelSource &source, std::string *problem = nullptr) const;
  /// Appears whole or not at all, in place of what was there.
  Status put(const KernelSource &source, const CodeImage &image) const;
  /// Held by whoever compiles the kernel: see ContentStore::lock().
  ContentStore::Lock lock(const KernelSource &source, const std::atomic<bool> *cancel) const;

private:
  std::string madeFrom(const KernelSource &source) const;
  Status check(const CodeImage &image, const KernelSource &source) const;

  ContentStore store;
  std::string toolchain, arch;
};

} // namespace calibatt

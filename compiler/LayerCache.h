// Lowered layers on disk, found by the masks and options they were made from: with
// their kernels cached too, a compile that changes nothing copies bytes.
#pragma once

#include "compiler/LayerLowering.h"
#include "runtime/format/ContentStore.h"

namespace calibatt {

class ProfileReader;

/// The entries of kind "layer" of a store.
class LayerCache {
public:
  explicit LayerCache(ContentStore store) : store(std::move(store)) {}

  /// SHA-256 over everything a lowered layer depends on: the layer's masks and statistics, the
  /// problem, the options, and this very program. Lower-case hex.
  static Result<std::string> key(const ProfileReader &profile, uint32_t layer,
                                 const CompileOptions &options);

  /// A missing or damaged entry, or one of another format, is a miss.
  std::optional<LoweredLayer> find(const std::string &key) const;
  Status put(const std::string &key, const LoweredLayer &layer) const;
  /// Held by whoever lowers the layer: see ContentStore::lock().
  ContentStore::Lock lock(const std::string &key, const std::atomic<bool> *cancel) const {
    return store.lock("layer", key, cancel);
  }

private:
  ContentStore store;
};

} // namespace calibatt

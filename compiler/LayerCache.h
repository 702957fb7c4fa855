// Lowered layers on disk, found by the masks and options they were made from: with
// their kernels cached too, a compile that changes nothing copies bytes.
#pragma once

#include "compiler/LayerLowering.h"
#include "runtime/format/ContentStore.h"

namespace calibatt {

class ProfileReader;

/// What a lowered layer follows from, in words, and its SHA-256 in lower-case hex.
struct LayerKey {
  std::string digest, madeFrom;
};

/// The entries of kind "layer" of a store.
class LayerCache {
public:
  explicit LayerCache(ContentStore store) : store(std::move(store)) {}

  /// Everything a lowered layer depends on: the layer's masks and statistics, the problem, the
  /// options, and this very program.
  static Result<LayerKey> key(const ProfileReader &profile, uint32_t layer,
                              const CompileOptions &options);

  /// What is there and is not this layer, whole, is a miss, and `problem` is told what it is:
  /// damaged, made from something else, or of facts that are not those of the profile.
  std::optional<LoweredLayer> find(const LayerKey &key, const ProfileReader &profile,
                                   uint32_t layer, const CompileOptions &options,
                                   std::string *problem = nullptr) const;
  Status put(const LayerKey &key, const LoweredLayer &layer) const;
  /// Held by whoever lowers the layer: see ContentStore::lock().
  ContentStore::Lock lock(const LayerKey &key, const std::atomic<bool> *cancel) const;

private:
  ContentStore store;
};

} // namespace calibatt

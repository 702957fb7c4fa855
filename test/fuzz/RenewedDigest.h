// A damaged package that its digest does not give away, so that the checks behind it are reached.
#pragma once

#include "runtime/format/PackageTables.h"
#include "runtime/format/Safetensors.h"
#include "test/fuzz/FuzzTarget.h"

#include <algorithm>

namespace calibatt::test {

/// The same container with the digest that its tables have; empty where it is none.
inline std::vector<uint8_t> withRenewedDigest(std::span<const uint8_t> bytes,
                                              const std::string &path) {
  Result<SafetensorsReader> file = SafetensorsReader::open(path);
  if (!file || !file->metadata(kManifestKey) || !file->metadata(kDigestKey))
    return {};
  std::vector<DigestEntry> tables;
  for (const TensorEntry &tensor : file->tensors()) {
    Result<TensorView> view = file->load(tensor);
    if (!view)
      return {};
    tables.push_back({tensor.name, tensor.dtype, tensor.shape, view->data});
  }
  std::string digest = tablesDigest(*file->metadata(kManifestKey), std::move(tables));
  std::string header(file->headerBytes().begin(), file->headerBytes().end());
  size_t at = header.find(*file->metadata(kDigestKey));
  if (file->metadata(kDigestKey)->size() != digest.size() || at == std::string::npos)
    return {};
  std::vector<uint8_t> forged(bytes.begin(), bytes.end());
  std::copy(digest.begin(), digest.end(), forged.begin() + int64_t(8 + at));
  return forged;
}

} // namespace calibatt::test

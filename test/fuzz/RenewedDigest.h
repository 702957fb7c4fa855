// A damaged file that its digest does not give away, so that the checks behind it are reached.
#pragma once

#include "runtime/format/TablesDigest.h"
#include "test/fuzz/FuzzTarget.h"

#include <algorithm>

namespace calibatt::test {

/// `__metadata__` of packages and profiles.
constexpr const char *kDocumentKey = "calibatt";

/// Where a tensor of the file is in its bytes.
inline uint8_t *bytesOf(std::vector<uint8_t> &bytes, const TensorEntry &tensor) {
  return bytes.data() + tensor.offset;
}

/// Replaces a text of the header by one as long; false where it is not there.
inline bool replaceInHeader(std::vector<uint8_t> &bytes, const SafetensorsReader &file,
                            const std::string &from, const std::string &to) {
  const std::string header(file.headerBytes().begin(), file.headerBytes().end());
  const size_t at = header.find(from);
  if (from.size() != to.size() || at == std::string::npos)
    return false;
  std::copy(to.begin(), to.end(), bytes.begin() + int64_t(8 + at));
  return true;
}

/// The same container with the digest that its tables have; empty where it is none.
inline std::vector<uint8_t> withRenewedDigest(std::span<const uint8_t> bytes,
                                              const std::string &path) {
  Result<SafetensorsReader> file = SafetensorsReader::open(path);
  if (!file || !file->metadata(kDocumentKey) || !file->metadata(kDigestKey))
    return {};
  const Result<std::string> digest = fileDigest(*file, *file->metadata(kDocumentKey));
  std::vector<uint8_t> forged(bytes.begin(), bytes.end());
  if (!digest || !replaceInHeader(forged, *file, *file->metadata(kDigestKey), *digest))
    return {};
  return forged;
}

} // namespace calibatt::test

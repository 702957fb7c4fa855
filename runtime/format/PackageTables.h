// What PackageWriter and PackageReader agree on beyond Package.h: the manifest
// as JSON, the checks a package must pass, and the digest over its tables.
#pragma once

#include "runtime/format/ChunkPool.h"
#include "runtime/format/Hash.h"
#include "runtime/format/Json.h"
#include "runtime/format/Package.h"

#include <span>
#include <string>
#include <vector>

namespace calibatt {

/// `__metadata__` keys.
constexpr const char *kManifestKey = "calibatt";
constexpr const char *kDigestKey = "calibatt_digest";

/// The most sites (layers * heads * steps) of one package.
constexpr uint64_t kMaxSites = uint64_t(1) << 28;

using PackageTable = ChunkPoolWriter::Table;

Json manifestToJson(const Manifest &manifest, uint32_t denseKernel);
struct ParsedManifest {
  Manifest manifest;
  uint32_t denseKernel = kNone;
};
/// Refuses other formats and unknown major versions by name.
Result<ParsedManifest> manifestFromJson(const std::string &text, const std::string &path);

/// Problem, granularity, architectures and superset passes. `where` begins the error message.
Status checkManifest(const Manifest &manifest, const std::string &where);
Status checkCode(const CodeImage &code, uint32_t index, const std::string &where);

/// Numbers that records may refer to.
struct PackageCounts {
  uint32_t codes = 0, datas = 0, orders = 0, kernels = 0;
};
/// One record: its references, heads and form. `form` is its code's.
Status checkKernel(const KernelRecord &kernel, uint32_t index, const std::vector<CodeImage> &codes,
                   const PackageCounts &counts, const Problem &problem, const std::string &where);
/// Every site (of the layers of a shard, where it is one) has a kernel that covers its head, other
/// sites have none; the dense kernel exists.
Status checkRoutes(std::span<const uint32_t> routes, std::span<const KernelRecord> kernels,
                   uint32_t denseKernel, const Manifest &manifest, const std::string &where);
/// An order names every row once.
Status checkOrder(std::span<const uint16_t> order, uint64_t rows, const std::string &where);

/// Whether a tensor is chunks, which have hashes of their own.
bool isPool(const std::string &name);

/// Digest over the manifest and all tables (names, types, shapes and, except for
/// pools, bytes), in order of their names. Lower-case hex.
struct DigestEntry {
  std::string name;
  DType dtype;
  std::span<const uint64_t> shape;
  std::span<const uint8_t> bytes; ///< ignored for a pool
};
std::string tablesDigest(const std::string &manifest, std::vector<DigestEntry> tables);

} // namespace calibatt

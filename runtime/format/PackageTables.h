// What PackageWriter and PackageReader agree on beyond Package.h: the manifest
// as JSON, and the checks a package must pass.
#pragma once

#include "runtime/format/ChunkPool.h"
#include "runtime/format/Hash.h"
#include "runtime/format/Json.h"
#include "runtime/format/Package.h"
#include "runtime/format/TablesDigest.h"

#include <span>
#include <string>
#include <vector>

namespace calibatt {

/// `__metadata__` key.
constexpr const char *kManifestKey = "calibatt";

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

/// The most rows of one kernel: launch orders are 16 bits.
constexpr uint64_t kMaxKernelRows = uint64_t(UINT16_MAX) + 1;

/// The most bytes that an item of each pool can need, decoded, and a data image. README.md says how
/// they follow from the problem.
struct ItemLimits {
  uint64_t code, data, order, text, image;
};
ItemLimits itemLimits(const Problem &problem);

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

} // namespace calibatt

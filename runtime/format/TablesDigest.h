// What says that a container is as it was written: one digest over its document and every table,
// and a hash a table, which says where the damage is. Packages and profiles have both; pools are
// left out, because their chunks have hashes of their own.
#pragma once

#include "runtime/format/Result.h"
#include "runtime/format/Safetensors.h"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace calibatt {

/// `__metadata__` keys.
constexpr const char *kDigestKey = "calibatt_digest";
constexpr const char *kTableHashesKey = "calibatt_tables";

struct DigestEntry {
  std::string name;
  DType dtype;
  std::span<const uint64_t> shape;
  std::span<const uint8_t> bytes; ///< ignored for a pool
};

/// "pool" and "NAME/pool".
bool isPool(const std::string &name);

/// SHA-256 over the document and all tables (names, types, shapes and, except for pools, bytes) in
/// order of their names, and the hashes of tables where there are any. Lower-case hex.
std::string tablesDigest(const std::string &document, std::vector<DigestEntry> tables,
                         const std::string &tableHashes = {});
/// The same of what an open file has; reads all of it but the pools.
Result<std::string> fileDigest(const SafetensorsReader &file, const std::string &document);

/// Sets both keys. `tables` are all that the file will have.
Status setDigests(SafetensorsWriter &file, const std::string &document,
                  const std::vector<DigestEntry> &tables);

/// The first table that has another hash than the file says; empty where there is none.
std::string damagedTable(const SafetensorsReader &file);
/// Refuses a file whose digest is missing or another, and names the table that is damaged.
Status checkDigest(const SafetensorsReader &file, const std::string &document);

} // namespace calibatt

// See Forgery.h.
#include "test/format/Forgery.h"

#include "runtime/format/PackageTables.h"

#include <algorithm>
#include <stdexcept>

namespace calibatt::test {
namespace {

template <typename T> T taken(Result<T> result) {
  if (!result)
    throw std::runtime_error(result.message());
  return result.take();
}

void require(const Status &status) {
  if (!status)
    throw std::runtime_error(status.message());
}

/// Writes the tables, but for a pool without bytes, which is in the file already, and a digest that
/// fits them.
void finish(SafetensorsWriter &out, const std::vector<PackageTable> &tables,
            const std::string &manifest) {
  std::vector<DigestEntry> entries;
  for (const PackageTable &table : tables) {
    entries.push_back({table.name, table.dtype, table.shape, table.bytes});
    if (!table.bytes.empty() || !table.name.ends_with("/pool"))
      require(out.add(table.name, table.dtype, table.shape, table.bytes));
  }
  out.setMetadata(kManifestKey, manifest);
  out.setMetadata(kDigestKey, tablesDigest(manifest, entries));
  require(out.finish());
}

PackageTable tableOf(const SafetensorsReader &file, const TensorEntry &entry) {
  return {entry.name, entry.dtype, entry.shape, taken(file.read(entry, 0, entry.bytes))};
}

} // namespace

void forge(const std::string &from, const std::string &to, const std::string &tensor,
           const ChangeBytes &change, const std::function<void(Json &)> &changeManifest) {
  const SafetensorsReader file = taken(SafetensorsReader::open(from));
  SafetensorsWriter out = taken(SafetensorsWriter::create(to));
  std::vector<PackageTable> tables;
  for (const TensorEntry &entry : file.tensors()) {
    tables.push_back(tableOf(file, entry));
    if (entry.name == tensor)
      change(tables.back().bytes);
  }
  std::string manifest = *file.metadata(kManifestKey);
  if (changeManifest) {
    Json json = Json::parse(manifest);
    changeManifest(json);
    manifest = json.dump();
  }
  finish(out, tables, manifest);
}

void forgeItem(const std::string &from, const std::string &to, const std::string &pool,
               uint32_t item, const ChangeBytes &change) {
  const ChunkHash hash = pool == "code" ? ChunkHash::Sha256 : ChunkHash::Xxh128;
  const SafetensorsReader file = taken(SafetensorsReader::open(from));
  const ChunkPoolReader stored = taken(ChunkPoolReader::open(file, pool, hash, UINT64_MAX));
  ChunkPoolWriter forged(pool, hash);
  for (uint32_t i = 0; i < stored.count(); ++i) {
    std::vector<uint8_t> bytes = taken(stored.item(i));
    if (i == item)
      change(bytes);
    forged.append(taken(compressItem(bytes)));
  }
  SafetensorsWriter out = taken(SafetensorsWriter::create(to));
  std::vector<PackageTable> tables;
  require(forged.writePool(out, tables));
  const auto isPool = [&](const std::string &name) {
    return std::any_of(tables.begin(), tables.end(),
                       [&](const PackageTable &table) { return table.name == name; });
  };
  std::vector<PackageTable> others;
  for (const TensorEntry &entry : file.tensors())
    if (!isPool(entry.name))
      others.push_back(tableOf(file, entry));
  tables.insert(tables.end(), others.begin(), others.end());
  finish(out, tables, *file.metadata(kManifestKey));
}

} // namespace calibatt::test

#include "runtime/format/TablesDigest.h"
#include "runtime/format/Hash.h"
#include "runtime/format/Json.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace calibatt {

namespace {

std::string hashOf(std::span<const uint8_t> bytes) {
  const Xxh128Digest digest = xxh128(bytes);
  return toHex(digest);
}

} // namespace

bool isPool(const std::string &name) { return name == "pool" || name.ends_with("/pool"); }

std::string tablesDigest(const std::string &document, std::vector<DigestEntry> tables,
                         const std::string &tableHashes) {
  std::sort(tables.begin(), tables.end(),
            [](const DigestEntry &a, const DigestEntry &b) { return a.name < b.name; });
  Sha256 hash;
  hash.update(fmt::format("{}\n", document.size()));
  hash.update(document);
  for (const DigestEntry &table : tables) {
    hash.update(fmt::format("{}\n{} [{}]\n", table.name, dtypeName(table.dtype),
                            fmt::join(table.shape, ",")));
    if (!isPool(table.name))
      hash.update(table.bytes);
  }
  hash.update(tableHashes);
  return toHex(hash.finish());
}

Result<std::string> fileDigest(const SafetensorsReader &file, const std::string &document) {
  std::vector<DigestEntry> tables;
  for (const TensorEntry &tensor : file.tensors()) {
    std::span<const uint8_t> bytes;
    if (!isPool(tensor.name)) {
      Result<TensorView> view = file.load(tensor);
      if (!view)
        return view.takeError();
      bytes = view->data; // which stays while the file is open
    }
    tables.push_back({tensor.name, tensor.dtype, tensor.shape, bytes});
  }
  const std::string *hashes = file.metadata(kTableHashesKey);
  return tablesDigest(document, std::move(tables), hashes ? *hashes : std::string());
}

Status setDigests(SafetensorsWriter &file, const std::string &document,
                  const std::vector<DigestEntry> &tables) {
  Json hashes = Json::object();
  for (const DigestEntry &table : tables)
    if (!isPool(table.name))
      hashes[table.name] = hashOf(table.bytes);
  Result<std::string> text = writeJson(hashes, kTableHashesKey);
  if (!text)
    return text.takeError();
  file.setMetadata(kTableHashesKey, *text);
  file.setMetadata(kDigestKey, tablesDigest(document, tables, *text));
  return {};
}

std::string damagedTable(const SafetensorsReader &file) {
  const std::string *text = file.metadata(kTableHashesKey);
  Result<Json> hashes = text ? parseJson(*text, kTableHashesKey) : Error{"none"};
  if (!hashes || !hashes->is_object())
    return "";
  for (const TensorEntry &tensor : file.tensors()) {
    if (isPool(tensor.name))
      continue;
    const auto hash = hashes->find(tensor.name);
    if (hash == hashes->end() || !hash->is_string())
      continue;
    Result<TensorView> view = file.load(tensor);
    if (!view || hash->get<std::string>() != hashOf(view->data))
      return tensor.name;
  }
  return "";
}

Status checkDigest(const SafetensorsReader &file, const std::string &document) {
  const std::string *wanted = file.metadata(kDigestKey);
  if (!wanted)
    return Error{fmt::format("{}: __metadata__ has no \"{}\"", file.path(), kDigestKey)};
  const Result<std::string> got = fileDigest(file, document);
  if (!got)
    return Error{got.message()};
  if (*got == *wanted)
    return {};
  const std::string table = damagedTable(file);
  return Error{fmt::format(
      "{}: {} is damaged: the SHA-256 of document and tables is {}, wanted {}", file.path(),
      table.empty() ? "header or a table" : fmt::format("tensor \"{}\"", table), *got,
      wanted->substr(0, 64))};
}

} // namespace calibatt

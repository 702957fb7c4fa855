// An entry: length of a JSON header, the header with the numbers, fatbin, PTX.
#include "compiler/KernelCache.h"

#include "runtime/format/Hash.h"
#include "runtime/format/Json.h"

#include <cstring>
#include <fmt/format.h>

namespace calibatt {

namespace {

constexpr const char *kKind = "kernel";
/// Part of every key: entries of another layout are not found.
constexpr const char *kLayout = "kernel 1";
/// A longer header is not one of ours.
constexpr uint32_t kMaxHeaderBytes = 1 << 16;

} // namespace

std::string KernelCache::key(const std::string &source, const std::string &toolchain) {
  Sha256 hash;
  hash.update(fmt::format("{}\n{}\n", kLayout, toolchain.size()));
  hash.update(toolchain);
  hash.update(source);
  return toHex(hash.finish());
}

ContentStore::Lock KernelCache::lock(const std::string &key,
                                     const std::atomic<bool> *cancel) const {
  return store.lock(kKind, key, cancel);
}

std::optional<CodeImage> KernelCache::find(const std::string &key) const {
  std::optional<std::vector<uint8_t>> entry = store.get(kKind, key);
  uint32_t headerBytes = 0;
  if (!entry || entry->size() < sizeof headerBytes)
    return std::nullopt;
  std::memcpy(&headerBytes, entry->data(), sizeof headerBytes);
  std::span<const uint8_t> rest = std::span(*entry).subspan(sizeof headerBytes);
  if (headerBytes > kMaxHeaderBytes || headerBytes > rest.size())
    return std::nullopt;
  auto json = parseJson({reinterpret_cast<const char *>(rest.data()), headerBytes}, "cache entry");
  if (!json || !json->is_object())
    return std::nullopt;
  rest = rest.subspan(headerBytes);

  JsonFields fields(*json, "cache entry");
  CodeImage image;
  image.symbol = fields.string("symbol");
  image.arch = fields.string("arch");
  image.form = Form(fields.u32("form", 0, uint32_t(Form::Table)));
  image.registers = fields.u32("registers");
  image.spillStores = fields.u32("spill_stores");
  image.spillLoads = fields.u32("spill_loads");
  image.staticSmem = fields.u32("static_smem");
  image.dynamicSmem = fields.u32("dynamic_smem");
  image.codeBytes = fields.u32("code_bytes");
  uint64_t fatbin = fields.integer("fatbin_bytes", 1, rest.size());
  if (!fields.status())
    return std::nullopt;
  image.fatbin.assign(rest.begin(), rest.begin() + ptrdiff_t(fatbin));
  image.ptx.assign(rest.begin() + ptrdiff_t(fatbin), rest.end());
  return image;
}

Status KernelCache::put(const std::string &key, const CodeImage &image) const {
  auto header = writeJson({{"symbol", image.symbol},
                           {"arch", image.arch},
                           {"form", uint32_t(image.form)},
                           {"registers", image.registers},
                           {"spill_stores", image.spillStores},
                           {"spill_loads", image.spillLoads},
                           {"static_smem", image.staticSmem},
                           {"dynamic_smem", image.dynamicSmem},
                           {"code_bytes", image.codeBytes},
                           {"fatbin_bytes", image.fatbin.size()}},
                          "cache entry");
  if (!header)
    return header.takeError();
  uint32_t headerBytes = uint32_t(header->size());
  const uint8_t *length = reinterpret_cast<const uint8_t *>(&headerBytes);
  std::vector<uint8_t> entry(length, length + sizeof headerBytes);
  entry.insert(entry.end(), header->begin(), header->end());
  entry.insert(entry.end(), image.fatbin.begin(), image.fatbin.end());
  entry.insert(entry.end(), image.ptx.begin(), image.ptx.end());
  return store.put(kKind, key, entry);
}

} // namespace calibatt

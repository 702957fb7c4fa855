// An entry: magic, SHA-256 of the rest, a JSON header with the numbers and
// sizes, fatbin, PTX.
#include "compiler/KernelCache.h"

#include "runtime/format/AtomicFile.h"
#include "runtime/format/Hash.h"
#include "runtime/format/Json.h"
#include "runtime/format/MappedFile.h"

#include <cstring>
#include <filesystem>
#include <fmt/format.h>

namespace fs = std::filesystem;

namespace calibatt {

namespace {

constexpr char kMagic[] = "calibatt-kernel-1\n";
constexpr size_t kMagicBytes = sizeof kMagic - 1;
constexpr size_t kHashBytes = sizeof(Sha256Digest);
/// A longer header is not one of ours.
constexpr uint32_t kMaxHeaderBytes = 1 << 16;

std::span<const uint8_t> bytesOf(const std::string &text) {
  return {reinterpret_cast<const uint8_t *>(text.data()), text.size()};
}

} // namespace

Result<KernelCache> KernelCache::open(const std::string &folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error || !fs::is_directory(folder, error))
    return Error{fmt::format("{}: cannot be a cache folder: {}", folder,
                             error ? error.message() : "not a folder")};
  return KernelCache(folder);
}

std::string KernelCache::key(const std::string &source, const std::string &toolchain) {
  Sha256 hash;
  hash.update(fmt::format("{}\n", toolchain.size()));
  hash.update(toolchain);
  hash.update(source);
  return toHex(hash.finish());
}

std::string KernelCache::entryPath(const std::string &key) const {
  // Two levels: a folder of a million files is slow on some file systems.
  return fmt::format("{}/{}/{}.kernel", folder, key.substr(0, 2), key);
}

std::optional<CodeImage> KernelCache::find(const std::string &key) const {
  auto file = MappedFile::open(entryPath(key));
  if (!file)
    return std::nullopt;
  std::span<const uint8_t> bytes = file->bytes();
  if (bytes.size() < kMagicBytes + kHashBytes + 4 ||
      std::memcmp(bytes.data(), kMagic, kMagicBytes) != 0)
    return std::nullopt;
  std::span<const uint8_t> hash = bytes.subspan(kMagicBytes, kHashBytes);
  std::span<const uint8_t> rest = bytes.subspan(kMagicBytes + kHashBytes);
  if (Sha256Digest found = sha256(rest); std::memcmp(found.data(), hash.data(), kHashBytes) != 0)
    return std::nullopt;

  uint32_t headerBytes = 0;
  std::memcpy(&headerBytes, rest.data(), sizeof headerBytes);
  rest = rest.subspan(sizeof headerBytes);
  if (headerBytes > kMaxHeaderBytes || headerBytes > rest.size())
    return std::nullopt;
  auto json = parseJson({reinterpret_cast<const char *>(rest.data()), headerBytes}, "cache entry");
  if (!json || !json->is_object())
    return std::nullopt;
  rest = rest.subspan(headerBytes);

  JsonFields fields(*json, "cache entry");
  CodeImage image;
  std::string entryKey = fields.string("key");
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
  if (!fields.status() || entryKey != key)
    return std::nullopt;
  image.fatbin.assign(rest.begin(), rest.begin() + ptrdiff_t(fatbin));
  image.ptx.assign(rest.begin() + ptrdiff_t(fatbin), rest.end());
  return image;
}

Status KernelCache::store(const std::string &key, const CodeImage &image) const {
  auto header = writeJson({{"key", key},
                           {"symbol", image.symbol},
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
  std::string rest(reinterpret_cast<const char *>(&headerBytes), sizeof headerBytes);
  rest += *header;
  rest.append(reinterpret_cast<const char *>(image.fatbin.data()), image.fatbin.size());
  rest += image.ptx;

  std::string path = entryPath(key);
  std::error_code error;
  fs::create_directories(fs::path(path).parent_path(), error);
  if (error)
    return Error{fmt::format("{}: {}", fs::path(path).parent_path().string(), error.message())};
  auto file = AtomicFile::create(path);
  if (!file)
    return file.takeError();
  if (Status status = file->write(std::string(kMagic)); !status)
    return status;
  if (Status status = file->write(sha256(bytesOf(rest))); !status)
    return status;
  if (Status status = file->write(rest); !status)
    return status;
  return file->commit();
}

} // namespace calibatt

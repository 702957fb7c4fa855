// An entry: length of a JSON header, the header with what it was made from and the numbers, fatbin,
// PTX.
#include "compiler/KernelCache.h"

#include "codegen/CubinSections.h"
#include "runtime/format/CubinPatch.h"
#include "runtime/format/Hash.h"
#include "runtime/format/Json.h"

#include <cstring>
#include <fmt/format.h>

namespace calibatt {

namespace {

constexpr const char *kKind = "kernel";
/// Part of every key: entries of another layout are not found.
constexpr const char *kLayout = "kernel 2";
/// A longer header is not one of ours.
constexpr uint32_t kMaxHeaderBytes = 1 << 16;

/// Whole, before any comparison with the source.
Result<CodeImage> parse(std::span<const uint8_t> entry, const std::string &madeFrom) {
  uint32_t headerBytes = 0;
  if (entry.size() < sizeof headerBytes)
    return Error{"is too short"};
  std::memcpy(&headerBytes, entry.data(), sizeof headerBytes);
  std::span<const uint8_t> rest = entry.subspan(sizeof headerBytes);
  if (headerBytes > kMaxHeaderBytes || headerBytes > rest.size())
    return Error{"is too short for its header"};
  auto json = parseJson({reinterpret_cast<const char *>(rest.data()), headerBytes}, "header");
  if (!json)
    return json.takeError();
  rest = rest.subspan(headerBytes);
  JsonFields fields(*json, "header");
  CodeImage image;
  if (fields.string("made_from") != madeFrom)
    fields.fail("is of another source or toolchain");
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
  if (fields.integer("ptx_bytes") != rest.size() - fatbin)
    fields.fail("the sizes in it are not those of what follows");
  if (Status status = fields.status(); !status)
    return status.takeError();
  image.fatbin.assign(rest.begin(), rest.begin() + ptrdiff_t(fatbin));
  image.ptx.assign(rest.begin() + ptrdiff_t(fatbin), rest.end());
  return image;
}

} // namespace

std::string KernelCache::madeFrom(const KernelSource &source) const {
  Sha256 hash;
  hash.update(source.cuda);
  return fmt::format("{}\nsource {}\n{}\n{}", kLayout, toHex(hash.finish()), arch, toolchain);
}

std::string KernelCache::key(const KernelSource &source) const {
  Sha256 hash;
  hash.update(madeFrom(source));
  return toHex(hash.finish());
}

ContentStore::Lock KernelCache::lock(const KernelSource &source,
                                     const std::atomic<bool> *cancel) const {
  return store.lock(kKind, key(source), cancel);
}

/// That the image is one of this source, as far as can be told without compiling it.
Status KernelCache::check(const CodeImage &image, const KernelSource &source) const {
  if (image.symbol != source.symbol || image.arch != arch || image.form != source.form ||
      image.dynamicSmem != source.dynamicSmem)
    return Error{fmt::format("is {} for {} ({}, {} bytes of shared memory), wanted {} for {} ({}, "
                             "{} bytes)",
                             shownName(image.symbol), shownName(image.arch), formName(image.form),
                             image.dynamicSmem, source.symbol, arch, formName(source.form),
                             source.dynamicSmem)};
  auto cubin = findCubin(image.fatbin);
  if (!cubin)
    return cubin.takeError();
  auto codeBytes = cubinCodeBytes(*cubin, source.symbol);
  if (!codeBytes)
    return codeBytes.takeError();
  if (*codeBytes != image.codeBytes)
    return Error{fmt::format("has {} bytes of code, but says {}", *codeBytes, image.codeBytes)};
  for (const std::string &wanted : {".entry " + source.symbol, ".target " + arch})
    if (image.ptx.find(wanted) == std::string::npos)
      return Error{fmt::format("its PTX has no \"{}\"", wanted)};
  return {};
}

std::optional<CodeImage> KernelCache::find(const KernelSource &source, std::string *problem) const {
  const std::string key = this->key(source);
  std::optional<std::vector<uint8_t>> entry = store.get(kKind, key, problem);
  if (!entry)
    return std::nullopt;
  auto image = parse(*entry, madeFrom(source));
  Status status = image ? check(*image, source) : Status(image.takeError());
  if (status)
    return image.take();
  if (problem)
    *problem = fmt::format("{}: {}", store.path(kKind, key), status.message());
  return std::nullopt;
}

Status KernelCache::put(const KernelSource &source, const CodeImage &image) const {
  auto header = writeJson({{"made_from", madeFrom(source)},
                           {"symbol", image.symbol},
                           {"arch", image.arch},
                           {"form", uint32_t(image.form)},
                           {"registers", image.registers},
                           {"spill_stores", image.spillStores},
                           {"spill_loads", image.spillLoads},
                           {"static_smem", image.staticSmem},
                           {"dynamic_smem", image.dynamicSmem},
                           {"code_bytes", image.codeBytes},
                           {"fatbin_bytes", image.fatbin.size()},
                           {"ptx_bytes", image.ptx.size()}},
                          "cache entry");
  if (!header)
    return header.takeError();
  uint32_t headerBytes = uint32_t(header->size());
  const uint8_t *length = reinterpret_cast<const uint8_t *>(&headerBytes);
  std::vector<uint8_t> entry(length, length + sizeof headerBytes);
  entry.insert(entry.end(), header->begin(), header->end());
  entry.insert(entry.end(), image.fatbin.begin(), image.fatbin.end());
  entry.insert(entry.end(), image.ptx.begin(), image.ptx.end());
  return store.put(kKind, key(source), entry);
}

} // namespace calibatt

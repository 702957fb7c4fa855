// Opens a profile: the index tensors are checked at once, masks when their head
// is decoded. Nothing of the file is believed before it is checked.
#include "calib_profiles/Profile.h"
#include "calib_profiles/ProfileHeader.h"
#include "runtime/format/InputFile.h"
#include "runtime/format/Quantity.h"
#include "runtime/format/Safetensors.h"
#include "runtime/format/TablesDigest.h"
#include "runtime/format/Zstd.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

namespace calibatt {

static uint64_t padded(uint64_t bytes) {
  return (bytes + kBlobAlignment - 1) / kBlobAlignment * kBlobAlignment;
}

struct ProfileReader::Impl {
  SafetensorsReader file;
  ProfileHeader header;
  TensorEntry pool;
  TensorView index, poolHash, map, keptMass, density, repetition, rowMax;

  uint64_t siteIndex(uint32_t layer, uint32_t head, uint32_t step) const {
    return (uint64_t(layer) * header.heads + head) * header.stepCount() + step;
  }
  Error atSite(const char *field, uint64_t site, const std::string &what) const;
  Status checkIndex() const;
  Status checkSites() const;
  Result<std::vector<uint8_t>> frame(uint32_t layer, uint32_t head) const;
  Result<HeadProfile> head(uint32_t layer, uint32_t head) const;
};

ProfileReader::ProfileReader(std::unique_ptr<Impl> i) : impl(std::move(i)) {}
ProfileReader::ProfileReader(ProfileReader &&) noexcept = default;
ProfileReader &ProfileReader::operator=(ProfileReader &&) noexcept = default;
ProfileReader::~ProfileReader() = default;

const ProfileHeader &ProfileReader::header() const { return impl->header; }
const std::string &ProfileReader::path() const { return impl->file.path(); }

Result<std::string> ProfileReader::digest() const {
  Result<Sha256Digest> digest = impl->file.file().sha256();
  if (!digest)
    return digest.takeError();
  return toHex(*digest);
}

Result<std::string> ProfileReader::layerDigest(uint32_t layer) const {
  const ProfileHeader &h = impl->header;
  if (layer >= h.layers)
    return Error{fmt::format("{}: layer {} asked for, the profile has {}", path(), layer,
                             counted(h.layers, "layer"))};
  Sha256 hash;
  const uint64_t sites = uint64_t(h.heads) * h.stepCount();
  for (uint32_t head = 0; head < h.heads; ++head) {
    const uint64_t entry = uint64_t(layer) * h.heads + head;
    const uint64_t size = impl->index.load<uint64_t>(entry * 3 + 1);
    hash.update(fmt::format("{} {}\n", size, impl->index.load<uint64_t>(entry * 3 + 2)));
    auto masks = impl->file.read(impl->pool, impl->index.load<uint64_t>(entry * 3), size);
    if (!masks)
      return masks.takeError();
    hash.update(*masks);
  }
  for (const TensorView *view :
       {&impl->map, &impl->keptMass, &impl->density, &impl->repetition, &impl->rowMax})
    hash.update(view->data.subspan(layer * sites * sizeof(float), sites * sizeof(float)));
  return toHex(hash.finish());
}

Result<ProfileReader> ProfileReader::open(const std::string &path) {
  Result<SafetensorsReader> file = SafetensorsReader::open(path);
  if (!file)
    return file.takeError();
  const std::string *document = file->metadata(kMetadataKey);
  if (!document)
    return Error{fmt::format("{}: __metadata__ has no \"{}\", so this is not a profile", path,
                             kMetadataKey)};
  Result<ProfileHeader> header = decodeHeader(*document, kProfileFormat, path);
  if (!header)
    return header.takeError();

  if (Status s = checkDigest(*file, *document); !s)
    return s.takeError();

  auto impl = std::make_unique<Impl>(Impl{file.take(), header.take()});
  const ProfileHeader &h = impl->header;
  const std::vector<uint64_t> sites = {h.layers, h.heads, h.stepCount()};
  struct Wanted {
    const char *name;
    DType dtype;
    std::vector<uint64_t> shape;
    TensorView *view;
  };
  const Wanted wanted[] = {
      {"pool_index", DType::U64, {uint64_t(h.layers) * h.heads, 3}, &impl->index},
      {"pool_hash",
       DType::U8,
       {uint64_t(h.layers) * h.heads, sizeof(Xxh128Digest)},
       &impl->poolHash},
      {"map", DType::U32, sites, &impl->map},
      {"kept_mass", DType::F32, sites, &impl->keptMass},
      {"density", DType::F32, sites, &impl->density},
      {"repetition", DType::F32, sites, &impl->repetition},
      {"row_max", DType::F32, sites, &impl->rowMax},
  };
  Result<TensorEntry> pool = impl->file.entry("pool", DType::U8, {SafetensorsReader::kAnySize});
  if (!pool)
    return pool.takeError();
  impl->pool = pool.take();
  for (const Wanted &w : wanted) {
    Result<TensorView> view = impl->file.tensor(w.name, w.dtype, w.shape);
    if (!view)
      return view.takeError();
    *w.view = view.take();
  }
  if (Status s = impl->checkIndex(); !s)
    return s.takeError();
  if (Status s = impl->checkSites(); !s)
    return s.takeError();
  return ProfileReader(std::move(impl));
}

Status ProfileReader::Impl::checkIndex() const {
  uint64_t end = 0; // of the entry before
  for (uint64_t entry = 0; entry < uint64_t(header.layers) * header.heads; ++entry) {
    const uint64_t offset = index.load<uint64_t>(entry * 3);
    const uint64_t size = index.load<uint64_t>(entry * 3 + 1);
    const uint64_t masks = index.load<uint64_t>(entry * 3 + 2);
    auto fail = [&](const std::string &what) {
      return Error{fmt::format("{}: pool_index: entry {} {}", file.path(), entry, what)};
    };
    if (offset != padded(end))
      return fail(fmt::format("starts at byte {}, wanted {}", offset, padded(end)));
    if (offset > pool.bytes || size > pool.bytes - offset)
      return fail(fmt::format("has {} bytes at byte {}, but the pool has {} bytes", size, offset,
                              pool.bytes));
    if (masks < 1 || masks > header.stepCount())
      return fail(fmt::format("has {} masks, wanted 1 to {}", masks, header.stepCount()));
    end = offset + size;
  }
  if (pool.bytes != padded(end))
    return Error{fmt::format("{}: pool: has {} bytes, but its frames have {}", file.path(),
                             pool.bytes, padded(end))};
  return {};
}

/// A frame with its padding, which has its hash.
Result<std::vector<uint8_t>> ProfileReader::Impl::frame(uint32_t layer, uint32_t head) const {
  const uint64_t entry = uint64_t(layer) * header.heads + head;
  const uint64_t offset = index.load<uint64_t>(entry * 3);
  Result<std::vector<uint8_t>> stored =
      file.read(pool, offset, padded(index.load<uint64_t>(entry * 3 + 1)));
  if (!stored)
    return stored;
  const Xxh128Digest got = xxh128(*stored);
  const std::span<const uint8_t> wanted = poolHash.data.subspan(entry * got.size(), got.size());
  if (std::equal(got.begin(), got.end(), wanted.begin()))
    return stored;
  return Error{fmt::format("{}: pool: layer {}, head {}: is damaged: its hash is {}, wanted {}",
                           file.path(), layer, head, toHex(got), toHex(wanted))};
}

Error ProfileReader::Impl::atSite(const char *field, uint64_t site, const std::string &what) const {
  const uint64_t steps = header.stepCount();
  return Error{fmt::format("{}: {}: layer {}, head {}, step {}: {}", file.path(), field,
                           site / steps / header.heads, site / steps % header.heads, site % steps,
                           what)};
}

Status ProfileReader::Impl::checkSites() const {
  struct Range {
    const char *name;
    const TensorView *view;
    float low, high;
  };
  const float largest = std::numeric_limits<float>::max();
  for (const Range &range :
       {Range{"kept_mass", &keptMass, 0, 1}, Range{"density", &density, 0, 1},
        Range{"repetition", &repetition, -1, 1}, Range{"row_max", &rowMax, -largest, largest}})
    for (uint64_t site = 0; site < range.view->elements(); ++site)
      if (float got = range.view->load<float>(site); !(got >= range.low && got <= range.high))
        return atSite(range.name, site,
                      fmt::format("got {}, wanted {} to {}", got, range.low, range.high));
  for (uint64_t site = 0; site < map.elements(); ++site) {
    const uint64_t masks = index.load<uint64_t>(site / header.stepCount() * 3 + 2);
    if (uint32_t got = map.load<uint32_t>(site); got >= masks)
      return atSite("map", site, fmt::format("got mask {}, wanted less than {}", got, masks));
  }
  return {};
}

SiteStats ProfileReader::stats(uint32_t layer, uint32_t head, uint32_t step) const {
  const uint64_t site = impl->siteIndex(layer, head, step);
  return {impl->keptMass.load<float>(site), impl->density.load<float>(site),
          impl->repetition.load<float>(site), impl->rowMax.load<float>(site)};
}

bool ProfileReader::isRepetitive(uint32_t layer, uint32_t head, uint32_t step) const {
  return stats(layer, head, step).repetition >= impl->header.criterion.gamma;
}

Result<HeadProfile> ProfileReader::Impl::head(uint32_t layer, uint32_t head) const {
  if (layer >= header.layers || head >= header.heads)
    return Error{fmt::format("{}: layer {}, head {} asked for, the profile has {} of {}",
                             file.path(), layer, head, counted(header.layers, "layer"),
                             counted(header.heads, "head"))};
  const uint64_t entry = uint64_t(layer) * header.heads + head;
  const uint64_t size = index.load<uint64_t>(entry * 3 + 1);
  const uint64_t masks = index.load<uint64_t>(entry * 3 + 2);
  const uint64_t bytes = maskBytes(header);
  // With its padding, which the hash is of too; checkIndex() found that the pool has it.
  Result<std::vector<uint8_t>> stored = frame(layer, head);
  if (!stored)
    return stored.takeError();
  Result<std::vector<uint8_t>> raw =
      zstdDecompress(std::span(*stored).first(size), masks * bytes,
                     fmt::format("{}: pool: layer {}, head {}", file.path(), layer, head));
  if (!raw)
    return raw.takeError();

  HeadProfile profile;
  for (uint64_t m = 0; m < masks; ++m) {
    BlockMask mask(header.blocks(), header.blocks());
    std::memcpy(mask.bytes().data(), raw->data() + m * bytes, bytes);
    profile.masks.push_back(std::move(mask));
  }
  std::vector<double> densities(masks, -1); // of the masks seen at some step
  for (uint32_t step = 0; step < header.stepCount(); ++step) {
    const uint64_t site = siteIndex(layer, head, step);
    const uint32_t mask = map.load<uint32_t>(site);
    if (densities[mask] < 0) {
      if (Status s = validateMask(profile.masks[mask], header.blocks(), layer, head, step,
                                  file.path() + ": pool");
          !s)
        return s.takeError();
      densities[mask] = profile.masks[mask].density();
    }
    SiteStats stats = {keptMass.load<float>(site), density.load<float>(site),
                       repetition.load<float>(site), rowMax.load<float>(site)};
    if (std::abs(stats.density - densities[mask]) > 1e-6)
      return atSite("density", site,
                    fmt::format("got {}, but the mask has {}", stats.density, densities[mask]));
    if (stats.repetition >= header.criterion.gamma && densities[mask] != 1)
      return atSite("repetition", site,
                    fmt::format("got {}, at least gamma {}, but the mask is not dense",
                                stats.repetition, header.criterion.gamma));
    profile.stepMask.push_back(mask);
    profile.stats.push_back(stats);
  }
  for (uint64_t m = 0; m < masks; ++m)
    if (densities[m] < 0)
      return Error{fmt::format("{}: map: layer {}, head {}: no step has mask {} of {}", file.path(),
                               layer, head, m, masks)};
  return profile;
}

Result<HeadProfile> ProfileReader::head(uint32_t layer, uint32_t head) const {
  return impl->head(layer, head);
}

} // namespace calibatt

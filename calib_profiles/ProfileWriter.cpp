// Writes a profile head by head: masks go straight to the pool, the few bytes a
// site of the other tensors are kept until the end.
#include "calib_profiles/PlacedFile.h"
#include "calib_profiles/Profile.h"
#include "calib_profiles/ProfileHeader.h"
#include "runtime/format/Hash.h"
#include "runtime/format/Quantity.h"
#include "runtime/format/Safetensors.h"
#include "runtime/format/TablesDigest.h"
#include "runtime/format/Zstd.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace calibatt {

namespace {
// Masks of neighbouring steps repeat each other; higher levels gain a few per
// cent and cost more than making the masks.
constexpr int kPoolLevel = 5;
} // namespace

struct ProfileWriter::Impl {
  std::string path, document;
  ProfileHeader header;
  SafetensorsWriter file;
  size_t pool = 0;
  uint64_t heads = 0; ///< appended so far
  std::vector<uint64_t> index;
  std::vector<uint8_t> hashes; ///< of the frames with their padding
  std::vector<uint32_t> map;
  std::vector<float> keptMass, density, repetition, rowMax;

  Status append(const HeadProfile &head);
  Status checkStats(const SiteStats &stats, uint32_t layer, uint32_t head, uint32_t step) const;
};

ProfileWriter::ProfileWriter(std::unique_ptr<Impl> i) : impl(std::move(i)) {}
ProfileWriter::ProfileWriter(ProfileWriter &&) noexcept = default;
ProfileWriter::~ProfileWriter() = default;

Result<ProfileWriter> ProfileWriter::create(const std::string &path, const ProfileHeader &header) {
  Result<std::string> document = encodeHeader(header, path);
  if (!document)
    return document.takeError();
  Result<SafetensorsWriter> file = SafetensorsWriter::create(path);
  if (!file)
    return file.takeError();
  file->setMetadata(kMetadataKey, *document);
  Result<size_t> pool = file->beginStream("pool", DType::U8);
  if (!pool)
    return pool.takeError();
  return ProfileWriter(
      std::make_unique<Impl>(Impl{path, document.take(), header, file.take(), *pool}));
}

Status ProfileWriter::Impl::checkStats(const SiteStats &s, uint32_t layer, uint32_t head,
                                       uint32_t step) const {
  const char *field = nullptr;
  if (!(s.keptMass >= 0 && s.keptMass <= 1))
    field = "kept_mass";
  else if (!(s.repetition >= -1 && s.repetition <= 1))
    field = "repetition";
  else if (!std::isfinite(s.rowMax))
    field = "row_max";
  if (!field)
    return {};
  return Error{fmt::format("{}: {}: layer {}, head {}, step {}: out of range (kept mass {}, "
                           "repetition {}, row maximum {})",
                           path, field, layer, head, step, s.keptMass, s.repetition, s.rowMax)};
}

Status ProfileWriter::Impl::append(const HeadProfile &head) {
  const uint32_t steps = header.stepCount();
  if (heads == uint64_t(header.layers) * header.heads)
    return Error{fmt::format("{}: more than {} x {}", path, counted(header.layers, "layer"),
                             counted(header.heads, "head"))};
  const uint32_t layer = uint32_t(heads / header.heads), h = uint32_t(heads % header.heads);
  if (head.stepMask.size() != steps || head.stats.size() != steps)
    return Error{fmt::format("{}: layer {}, head {}: got {} and {}, wanted {} "
                             "of each",
                             path, layer, h, counted(head.stepMask.size(), "mask"),
                             counted(head.stats.size(), "statistic"), steps)};

  std::vector<uint8_t> raw;
  std::vector<const BlockMask *> distinct; // in order of first use
  for (uint32_t step = 0; step < steps; ++step) {
    if (head.stepMask[step] >= head.masks.size())
      return Error{fmt::format("{}: layer {}, head {}, step {}: got mask {}, wanted less than {}",
                               path, layer, h, step, head.stepMask[step], head.masks.size())};
    const BlockMask &mask = head.masks[head.stepMask[step]];
    const SiteStats &stats = head.stats[step];
    if (Status s = checkStats(stats, layer, h, step); !s)
      return s;
    auto equal = [&](const BlockMask *other) { return other == &mask || *other == mask; };
    auto at = std::find_if(distinct.begin(), distinct.end(), equal);
    map.push_back(uint32_t(at - distinct.begin()));
    if (at == distinct.end()) {
      if (Status s = validateMask(mask, header.blocks(), layer, h, step, path); !s)
        return s;
      distinct.push_back(&mask);
      raw.insert(raw.end(), mask.bytes().begin(), mask.bytes().end());
    }
    if (stats.repetition >= header.criterion.gamma && mask.density() != 1)
      return Error{fmt::format("{}: layer {}, head {}, step {}: repetition {} is at least gamma "
                               "{}, but the mask is not dense",
                               path, layer, h, step, stats.repetition, header.criterion.gamma)};
    keptMass.push_back(stats.keptMass);
    density.push_back(float(mask.density()));
    repetition.push_back(stats.repetition);
    rowMax.push_back(stats.rowMax);
  }
  Result<std::vector<uint8_t>> frame = zstdCompress(raw, kPoolLevel, /*longWindow=*/true);
  if (!frame)
    return frame.takeError();
  index.insert(index.end(), {file.streamBytes(pool), frame->size(), distinct.size()});
  ++heads;
  frame->resize((frame->size() + kBlobAlignment - 1) / kBlobAlignment * kBlobAlignment);
  const Xxh128Digest hash = xxh128(*frame);
  hashes.insert(hashes.end(), hash.begin(), hash.end());
  return file.append(pool, *frame);
}

Status ProfileWriter::append(const HeadProfile &head) { return impl->append(head); }

Status ProfileWriter::finish() {
  Impl &w = *impl;
  const uint64_t layers = w.header.layers, heads = w.header.heads, steps = w.header.stepCount();
  if (w.heads != layers * heads)
    return Error{fmt::format("{}: got {}, wanted {} x {}", w.path, counted(w.heads, "head"),
                             counted(layers, "layer"), counted(heads, "head"))};
  const std::vector<uint64_t> sites = {layers, heads, steps}, index = {layers * heads, 3},
                              hashes = {layers * heads, sizeof(Xxh128Digest)},
                              pool = {w.file.streamBytes(w.pool)};
  const std::vector<DigestEntry> tables = {{"pool", DType::U8, pool, {}},
                                           {"pool_index", DType::U64, index, bytesOf(w.index)},
                                           {"pool_hash", DType::U8, hashes, w.hashes},
                                           {"map", DType::U32, sites, bytesOf(w.map)},
                                           {"kept_mass", DType::F32, sites, bytesOf(w.keptMass)},
                                           {"density", DType::F32, sites, bytesOf(w.density)},
                                           {"repetition", DType::F32, sites, bytesOf(w.repetition)},
                                           {"row_max", DType::F32, sites, bytesOf(w.rowMax)}};
  for (const DigestEntry &table : tables)
    if (!isPool(table.name)) // which is in the file already
      if (Status s = w.file.add(table.name, table.dtype, {table.shape.begin(), table.shape.end()},
                                table.bytes);
          !s)
        return s;
  if (Status s = setDigests(w.file, w.document, tables); !s)
    return s;
  return w.file.finish();
}

} // namespace calibatt

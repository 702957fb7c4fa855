// Reads `mask/<layer>/<step>` tensors and the optional statistics beside them.
#include "calib_profiles/BitmapImport.h"
#include "calib_profiles/ProfileHeader.h"
#include "runtime/format/Safetensors.h"

#include <fmt/format.h>

#include <optional>
#include <set>

namespace calibatt {

struct BitmapReader::Impl {
  SafetensorsReader file;
  ProfileHeader header;
  std::vector<TensorEntry> masks; // [layers, steps]
  std::optional<TensorView> keptMass, repetition, rowMax;

  Status collect();
  Result<HeadProfile> head(uint32_t layer, uint32_t head) const;
};

BitmapReader::BitmapReader(std::unique_ptr<Impl> i) : impl(std::move(i)) {}
BitmapReader::BitmapReader(BitmapReader &&) noexcept = default;
BitmapReader::~BitmapReader() = default;

const ProfileHeader &BitmapReader::header() const { return impl->header; }
Result<HeadProfile> BitmapReader::head(uint32_t layer, uint32_t head) const {
  return impl->head(layer, head);
}

Result<BitmapReader> BitmapReader::open(const std::string &path) {
  Result<SafetensorsReader> file = SafetensorsReader::open(path);
  if (!file)
    return file.takeError();
  const std::string *document = file->metadata(kMetadataKey);
  if (!document)
    return Error{fmt::format("{}: __metadata__ has no \"{}\", wanted the document of a \"{}\" file",
                             path, kMetadataKey, kBitmapFormat)};
  Result<ProfileHeader> header = decodeHeader(*document, kBitmapFormat, path);
  if (!header)
    return header.takeError();
  if (header->tool.empty())
    header->tool = kToolName;
  auto impl = std::make_unique<Impl>(Impl{file.take(), header.take()});
  if (Status s = impl->collect(); !s)
    return s.takeError();
  return BitmapReader(std::move(impl));
}

Status BitmapReader::Impl::collect() {
  const ProfileHeader &h = header;
  const uint64_t blocks = h.blocks();
  const std::vector<uint64_t> shape = {h.heads, blocks, BlockMask::rowBytes(h.blocks())};
  for (uint32_t layer = 0; layer < h.layers; ++layer)
    for (uint32_t step = 0; step < h.stepCount(); ++step) {
      Result<TensorEntry> mask =
          file.entry(fmt::format("mask/{}/{}", layer, step), DType::U8, shape);
      if (!mask)
        return mask.takeError();
      masks.push_back(mask.take());
    }
  size_t known = masks.size();
  for (auto [name, view] :
       {std::pair{"kept_mass", &keptMass}, {"repetition", &repetition}, {"row_max", &rowMax}}) {
    if (!file.find(name))
      continue;
    Result<TensorView> tensor = file.tensor(name, DType::F32, {h.layers, h.heads, h.stepCount()});
    if (!tensor)
      return tensor.takeError();
    *view = tensor.take();
    ++known;
  }
  if (file.tensors().size() == known)
    return {};
  // Something is there that was not asked for: a mask outside the declared
  // ranges, a second spelling of one ("mask/00/1"), or a tensor of another format.
  std::set<std::string> wanted = {"kept_mass", "repetition", "row_max"};
  for (const TensorEntry &mask : masks)
    wanted.insert(mask.name);
  for (const TensorEntry &tensor : file.tensors())
    if (!wanted.count(tensor.name))
      return Error{fmt::format("{}: tensor \"{}\": wanted mask/<layer>/<step> with layer 0 to {} "
                               "and step 0 to {}, kept_mass, repetition or row_max",
                               file.path(), tensor.name, h.layers - 1, h.stepCount() - 1)};
  return {};
}

Result<HeadProfile> BitmapReader::Impl::head(uint32_t layer, uint32_t head) const {
  const uint64_t bytes = maskBytes(header);
  HeadProfile profile;
  for (uint32_t step = 0; step < header.stepCount(); ++step) {
    const TensorEntry &tensor = masks[uint64_t(layer) * header.stepCount() + step];
    BlockMask mask(header.blocks(), header.blocks());
    if (Status s = file.read(tensor, head * bytes, std::span(mask.bytes()).first(bytes)); !s)
      return s.takeError();
    if (Status s = validateMask(mask, header.blocks(), layer, head, step,
                                file.path() + ": " + tensor.name);
        !s)
      return s.takeError();
    const uint64_t site = (uint64_t(layer) * header.heads + head) * header.stepCount() + step;
    SiteStats stats;
    stats.density = float(mask.density());
    if (keptMass)
      stats.keptMass = keptMass->load<float>(site);
    if (repetition)
      stats.repetition = repetition->load<float>(site);
    if (rowMax)
      stats.rowMax = rowMax->load<float>(site);
    profile.masks.push_back(std::move(mask));
    profile.stepMask.push_back(step);
    profile.stats.push_back(stats);
  }
  return profile;
}

} // namespace calibatt

// Masks decoded from schedules (packages) and from bitmaps (profiles).
#include "runtime/tools/MaskSource.h"

#include "calib_profiles/Profile.h"
#include "calib_profiles/Repetition.h"
#include "runtime/format/AnchorLayout.h"
#include "runtime/format/Json.h"
#include "runtime/format/Safetensors.h"
#include "runtime/inspect/SiteSchedule.h"
#include "runtime/src/KernelSchedule.h"

#include <fmt/format.h>

namespace calibatt {
namespace {

class PackageMasks : public MaskSource {
public:
  explicit PackageMasks(PackageReader reader) : package(std::move(reader)), schedules(package) {}

  const std::string &path() const override { return package.path(); }
  VideoShape shape() const override { return shapeOf(package.manifest().problem); }
  const char *kind() const override { return "package"; }
  Counts counts() const override {
    const Problem &p = package.manifest().problem;
    return {p.layers, p.heads, p.steps};
  }

  Result<SiteMask> mask(const Site &site) override {
    const uint32_t kernel = package.route(site.layer, site.head, site.step);
    const KernelRecord &record = package.kernel(kernel);
    auto schedule = schedules.get(kernel);
    if (!schedule)
      return schedule.takeError();
    if (site.head < record.headBase || site.head - record.headBase >= (*schedule)->heads)
      return Error{fmt::format("{}: {}: routed to kernel {}, which does not cover it",
                               package.path(), siteName(site), kernel)};
    SiteMask mask = siteMask(site, record, **schedule);
    const PackageSiteStats stats = package.stats(site.layer, site.head, site.step);
    mask.keptMass = stats.keptMass;
    mask.repetition = stats.repetition;
    mask.repetitive = package.isRepetitive(site.layer, site.head, site.step);
    mask.form = formName(package.codeInfo(record.code).form);
    return mask;
  }

private:
  PackageReader package;
  ScheduleCache schedules;
};

class ProfileMasks : public MaskSource {
public:
  explicit ProfileMasks(ProfileReader reader) : profile(std::move(reader)) {}

  const std::string &path() const override { return profile.path(); }
  VideoShape shape() const override {
    const ProfileHeader &h = profile.header();
    return {h.model, h.grid.frames, h.grid.height, h.grid.width, h.maxText, h.blockSize};
  }
  const char *kind() const override { return "profile"; }
  Counts counts() const override {
    const ProfileHeader &h = profile.header();
    return {h.layers, h.heads, h.stepCount()};
  }

  Result<SiteMask> mask(const Site &site) override {
    if (!decoded || decodedLayer != site.layer || decodedHead != site.head) {
      auto head = profile.head(site.layer, site.head);
      if (!head)
        return head.takeError();
      decoded = head.take();
      decodedLayer = site.layer, decodedHead = site.head;
    }
    const BlockMask &bits = decoded->masks[decoded->stepMask[site.step]];
    const SiteStats stats = profile.stats(site.layer, site.head, site.step);
    SiteMask mask;
    mask.site = site;
    mask.blocks = bits.rows();
    mask.kept.reserve(size_t(bits.rows()) * bits.cols());
    for (uint32_t row = 0; row < bits.rows(); ++row)
      for (uint32_t col = 0; col < bits.cols(); ++col)
        mask.kept.push_back(bits.get(row, col));
    mask.keptMass = stats.keptMass;
    mask.repetition = stats.repetition;
    mask.repetitive = profile.isRepetitive(site.layer, site.head, site.step);
    // As it will be compiled.
    const ProfileHeader &h = profile.header();
    const AnchorGrid grid{h.grid.height, h.grid.width, h.criterion.anchors};
    if (mask.repetitive && h.maxText == 0 && isValid(grid, uint32_t(h.tokens()))) {
      mask.anchorRows = anchorRows(grid.height, grid.anchors);
      mask.tiles = packedTiles(grid, uint32_t(h.tokens()));
    }
    return mask;
  }

private:
  ProfileReader profile;
  std::optional<HeadProfile> decoded;
  uint32_t decodedLayer = 0, decodedHead = 0;
};

/// The format a file names in its metadata.
Result<std::string> formatOf(const std::string &path) {
  auto file = SafetensorsReader::open(path);
  if (!file)
    return file.takeError();
  const std::string *document = file->metadata("calibatt");
  if (!document)
    return Error{fmt::format("{}: __metadata__ has no \"calibatt\", so this is neither a package "
                             "nor a profile",
                             path)};
  auto json = parseJson(*document, path + ": __metadata__.calibatt");
  if (!json)
    return json.takeError();
  JsonFields fields(*json, path + ": __metadata__.calibatt");
  std::string format = fields.string("format");
  if (Status s = fields.status(); !s)
    return s.takeError();
  return format;
}

} // namespace

Result<std::unique_ptr<MaskSource>> MaskSource::open(const std::string &path) {
  auto format = formatOf(path);
  if (!format)
    return format.takeError();
  if (*format == "calibatt.profile") {
    auto profile = ProfileReader::open(path);
    if (!profile)
      return profile.takeError();
    return std::unique_ptr<MaskSource>(std::make_unique<ProfileMasks>(profile.take()));
  }
  // Whatever else it is, the reader of packages says what is wrong with it.
  auto package = PackageReader::open(path);
  if (!package)
    return package.takeError();
  return std::unique_ptr<MaskSource>(std::make_unique<PackageMasks>(package.take()));
}

Status MaskSource::check(const SiteFilter &filter) const {
  const Counts all = counts();
  struct Part {
    const char *name;
    std::optional<uint32_t> got;
    uint32_t count;
  };
  for (const Part &part :
       {Part{"layer", filter.layer, all.layers}, Part{"head", filter.head, all.heads},
        Part{"step", filter.step, all.steps}})
    if (part.got && *part.got >= part.count)
      return Error{fmt::format("{}: {} {}: the {} has {}s 0..{}", path(), part.name, *part.got,
                               kind(), part.name, part.count - 1)};
  return {};
}

} // namespace calibatt

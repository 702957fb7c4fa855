// Decodes what the kernels read and holds it against the profile's masks.
#include "runtime/tools/verify/ScheduleComparison.h"

#include "calib_profiles/StepSharing.h"
#include "runtime/format/OrderedPool.h"
#include "runtime/format/Quantity.h"
#include "runtime/src/KernelSchedule.h"

#include <bit>
#include <cstring>
#include <fmt/format.h>
#include <map>
#include <mutex>
#include <tuple>

namespace calibatt {

/// What is no size: a kernel of another model, scale or schedule has the same blocks.
static Status checkSameFacts(const PackageReader &package, const ProfileReader &profile) {
  const Manifest &m = package.manifest();
  const ProfileHeader &h = profile.header();
  auto compare = [&](const std::string &name, const auto &has, const auto &wanted) -> Status {
    if (has == wanted)
      return {};
    return Error{fmt::format("{}: {} is {}, but {} has {}: the package is not of this profile",
                             package.path(), name, has, profile.path(), wanted)};
  };
  for (const Status &same :
       {compare("model", m.problem.model, h.model), compare("dtype", m.problem.dtype, h.dtype),
        compare("scale", m.problem.scale, h.scale),
        compare("repetition.gamma", m.repetition.gamma, h.criterion.gamma),
        compare("repetition.anchors", m.repetition.anchors, h.criterion.anchors)})
    if (!same)
      return same;
  for (size_t i = 0; i < m.steps.size(); ++i) { // none in packages that do not tell
    const StepInfo &has = m.steps[i], &wanted = h.steps[i];
    for (const Status &same :
         {compare(fmt::format("steps[{}].timestep", i), has.timestep, wanted.timestep),
          compare(fmt::format("steps[{}].sigma", i), has.sigma, wanted.sigma),
          compare(fmt::format("steps[{}].module", i), has.module, wanted.module)})
      if (!same)
        return same;
  }
  return {};
}

/// The statistics that the package carries have to be the profile's, bit by bit.
static void compareStats(const PackageReader &package, const ProfileReader &profile,
                         const Site &site, ScheduleComparison &result) {
  const PackageSiteStats has = package.stats(site.layer, site.head, site.step);
  const SiteStats wanted = profile.stats(site.layer, site.head, site.step);
  for (auto [name, got, want] : {std::tuple{"kept mass", has.keptMass, wanted.keptMass},
                                 {"density", has.density, wanted.density},
                                 {"repetition", has.repetition, wanted.repetition}})
    if (std::bit_cast<uint32_t>(got) != std::bit_cast<uint32_t>(want)) {
      if (++result.differingStats == 1)
        result.firstStats = fmt::format("{}: {} is {} in the package, but {} in the profile",
                                        siteName(site), name, got, want);
      return;
    }
}

static Status checkSameProblem(const PackageReader &package, const ProfileReader &profile) {
  const Problem &p = package.manifest().problem;
  const ProfileHeader &h = profile.header();
  struct Field {
    const char *name;
    uint64_t package, profile;
  };
  const Field fields[] = {
      {"layers", p.layers, h.layers},           {"heads", p.heads, h.heads},
      {"steps", p.steps, h.stepCount()},        {"frames", p.frames, h.grid.frames},
      {"grid height", p.height, h.grid.height}, {"grid width", p.width, h.grid.width},
      {"max_text", p.maxText, h.maxText},       {"head_dim", p.headDim, h.headDim},
      {"block size", p.block, h.blockSize},     {"tokens", p.tokens, h.tokens()},
  };
  for (const Field &field : fields)
    if (field.package != field.profile)
      return Error{fmt::format("{}: {} is {}, but {} has {}: the package is not of this profile",
                               package.path(), field.name, field.package, profile.path(),
                               field.profile)};
  return checkSameFacts(package, profile);
}

/// The tau of share-steps, or nothing where the package was compiled without it.
static Result<std::optional<double>> shareStepsTau(const PackageReader &package) {
  std::optional<double> tau;
  for (const SupersetPass &pass : package.manifest().supersetPasses) {
    if (pass.name != kShareStepsPass)
      return Error{fmt::format("{}: was compiled with the superset pass \"{}\", which this program "
                               "cannot check",
                               package.path(), pass.name)};
    tau = pass.bound;
  }
  return tau;
}

/// The mask a schedule computes for its head number `head`: every row of a repetitive one is its
/// first.
static BlockMask maskOf(const ScheduleMasks &schedule, uint32_t head) {
  BlockMask mask(schedule.blocks(), schedule.blocks());
  const size_t rowBytes = BlockMask::rowBytes(mask.cols());
  for (uint32_t row = 0; row < mask.rows(); ++row)
    std::memcpy(mask.bytes().data() + row * rowBytes,
                schedule.row(head, schedule.isRepetitive(head) ? 0 : row).data(), rowBytes);
  return mask;
}

/// A head that copies anchor rows has to be one that the profile calls repetitive, with the
/// profile's anchors. (To compute a repetitive head whole is always right.)
static Status checkAnchors(const ScheduleMasks &schedule, uint32_t head,
                           const ProfileReader &profile, const Site &site) {
  if (!schedule.isRepetitive(head))
    return {};
  const ProfileHeader &header = profile.header();
  if (!profile.isRepetitive(site.layer, site.head, site.step))
    return Error{fmt::format("{}: computes anchor rows only, but the profile does not call the "
                             "head repetitive",
                             siteName(site))};
  const AnchorGrid wanted{header.grid.height, header.grid.width, header.criterion.anchors};
  if (schedule.grid != wanted)
    return Error{fmt::format("{}: has {} anchor rows in frames of {} x {}, wanted {} in {} x {}",
                             siteName(site), schedule.grid.anchors, schedule.grid.height,
                             schedule.grid.width, wanted.anchors, wanted.height, wanted.width)};
  return {};
}

/// Compares one site. `allowed` contains `wanted`: the package may have its blocks.
static void compareSite(const Site &site, const BlockMask &package, const BlockMask &wanted,
                        const BlockMask &allowed, size_t limit, ScheduleComparison &result) {
  uint64_t blocks = uint64_t(wanted.rows()) * wanted.cols();
  ++result.sites;
  result.rows += wanted.rows();
  result.blocks += blocks;
  if (package == wanted)
    return;
  uint64_t added = 0, notAllowed = 0, missing = 0;
  for (uint32_t row = 0; row < wanted.rows(); ++row) {
    std::span<const uint8_t> has = package.row(row), must = wanted.row(row), may = allowed.row(row);
    for (size_t byte = 0; byte < has.size(); ++byte) {
      added += unsigned(std::popcount(uint8_t(has[byte] & ~must[byte])));
      unsigned lost = must[byte] & ~has[byte], wrong = has[byte] & ~may[byte];
      for (unsigned bits = lost | wrong; bits; bits &= bits - 1) {
        unsigned bit = unsigned(std::countr_zero(bits));
        bool inPackage = wrong >> bit & 1;
        ++(inPackage ? notAllowed : missing);
        if (result.first.size() < limit)
          result.first.push_back({site, row, uint32_t(byte * 8 + bit), inPackage});
      }
    }
  }
  result.onlyInPackage += added;
  result.onlyInProfile += missing;
  result.notAllowed += notAllowed;
  result.differingSites += notAllowed + missing != 0;
  SiteAddition addition{site, double(added) / double(blocks),
                        double(allowed.count() - wanted.count()) / double(blocks)};
  if (!result.wantsEquality() && added &&
      (!result.largestAddition || addition.density > result.largestAddition->density))
    result.largestAddition = addition;
}

namespace {

/// The masks a package has to compute, and those it may, of one layer.
class LayerMasks {
public:
  static Result<LayerMasks> load(const ProfileReader &profile, uint32_t layer) {
    LayerMasks masks(profile, layer);
    for (uint32_t head = 0; head < profile.header().heads; ++head) {
      auto loaded = profile.head(layer, head);
      if (!loaded)
        return loaded.takeError();
      masks.heads.push_back(loaded.take());
    }
    return masks;
  }

  bool isRepetitive(uint32_t head, uint32_t step) const {
    return profile->isRepetitive(layer, head, step);
  }
  /// A repetitive site is computed whole.
  BlockMask wanted(uint32_t head, uint32_t step) const {
    const BlockMask &mask = own(head, step);
    return isRepetitive(head, step) ? BlockMask::dense(mask.rows(), mask.cols()) : mask;
  }
  /// With share-steps; repetitive steps part those that may share.
  BlockMask shareable(uint32_t head, uint32_t step, double tau) const {
    if (isRepetitive(head, step))
      return wanted(head, step);
    uint32_t begin = step, end = step + 1;
    while (begin > 0 && !isRepetitive(head, begin - 1))
      --begin;
    while (end < profile->header().stepCount() && !isRepetitive(head, end))
      ++end;
    std::vector<const BlockMask *> steps;
    for (uint32_t s = begin; s < end; ++s)
      steps.push_back(&own(head, s));
    return shareableUnion(steps, step - begin, tau);
  }

private:
  LayerMasks(const ProfileReader &profile, uint32_t layer) : profile(&profile), layer(layer) {}
  const BlockMask &own(uint32_t head, uint32_t step) const {
    return heads[head].masks[heads[head].stepMask[step]];
  }

  const ProfileReader *profile;
  uint32_t layer;
  std::vector<HeadProfile> heads;
};

} // namespace

namespace {

/// Schedules that are read from CUDA text, each read once: sites of several layers may share them.
class EmittedMasks {
public:
  explicit EmittedMasks(const PackageReader &package) : package(package) {}

  Result<ScheduleMasks> get(uint32_t kernel, ScheduleDecoder &decoder) {
    const KernelRecord &record = package.kernel(kernel);
    if (record.data != kNone)
      return kernelMasks(package, kernel, decoder);
    const std::pair key(record.code, record.heads);
    {
      const std::lock_guard lock(mutex);
      if (const auto found = known.find(key); found != known.end())
        return found->second;
    }
    auto masks = kernelMasks(package, kernel, decoder);
    if (!masks)
      return masks;
    const std::lock_guard lock(mutex);
    const size_t bytes = masks->words.size() * sizeof(uint64_t);
    if (this->bytes + bytes <= kMostBytes && known.emplace(key, *masks).second)
      this->bytes += bytes;
    return masks;
  }

private:
  static constexpr size_t kMostBytes = 64 << 20;
  const PackageReader &package;
  std::mutex mutex;
  std::map<std::pair<uint32_t, uint32_t>, ScheduleMasks> known;
  size_t bytes = 0;
};

} // namespace

/// All sites of one layer, step after step: so that a kernel of all heads is decoded once, and
/// from the one before it.
static Result<ScheduleComparison> compareLayer(const PackageReader &package,
                                               const ProfileReader &profile, uint32_t layer,
                                               std::optional<double> tau, size_t limit,
                                               EmittedMasks &emitted) {
  auto masks = LayerMasks::load(profile, layer);
  if (!masks)
    return masks.takeError();
  const Problem &problem = package.manifest().problem;
  ScheduleComparison result;
  result.supersetPasses = package.manifest().supersetPasses;
  ScheduleDecoder decoder(package);
  uint32_t decodedKernel = kNone;
  ScheduleMasks schedule;
  for (uint32_t step = 0; step < problem.steps; ++step)
    for (uint32_t head = 0; head < problem.heads; ++head) {
      Site site{layer, head, step};
      uint32_t kernel = package.route(layer, head, step);
      const KernelRecord &record = package.kernel(kernel);
      if (head < record.headBase || head - record.headBase >= record.heads)
        return Error{fmt::format("{}: {}: routed to kernel {}, which covers heads {}..{}",
                                 package.path(), siteName(site), kernel, record.headBase,
                                 record.headBase + record.heads - 1)};
      if (kernel != decodedKernel) {
        auto decoded = emitted.get(kernel, decoder);
        if (!decoded)
          return decoded.takeError();
        schedule = decoded.take();
        decodedKernel = kernel;
        if (uint64_t visits = countBits(schedule.words); visits != record.visits)
          return Error{fmt::format("{}: kernel {}: its schedule has {}, but its record says {}",
                                   package.path(), kernel, counted(visits, "visit"),
                                   record.visits)};
      }
      if (Status s = checkAnchors(schedule, head - record.headBase, profile, site); !s)
        return Error{package.path() + ": " + s.message()};
      compareStats(package, profile, site, result);
      BlockMask computed = maskOf(schedule, head - record.headBase);
      BlockMask wanted = masks->wanted(head, step);
      // What may be added is only worked out where something is.
      bool share = tau && computed != wanted;
      compareSite(site, computed, wanted, share ? masks->shareable(head, step, *tau) : wanted,
                  limit, result);
      result.repetitiveSites += masks->isRepetitive(head, step);
    }
  return result;
}

/// Adds the next layer's.
static void append(ScheduleComparison &all, const ScheduleComparison &layer, size_t limit) {
  all.sites += layer.sites;
  all.rows += layer.rows;
  all.blocks += layer.blocks;
  all.repetitiveSites += layer.repetitiveSites;
  all.differingSites += layer.differingSites;
  all.onlyInPackage += layer.onlyInPackage;
  all.onlyInProfile += layer.onlyInProfile;
  all.notAllowed += layer.notAllowed;
  if (!all.differingStats)
    all.firstStats = layer.firstStats;
  all.differingStats += layer.differingStats;
  if (layer.largestAddition &&
      (!all.largestAddition || layer.largestAddition->density > all.largestAddition->density))
    all.largestAddition = layer.largestAddition;
  for (const BlockDifference &difference : layer.first)
    if (all.first.size() < limit)
      all.first.push_back(difference);
}

Result<ScheduleComparison> compareSchedules(const PackageReader &package,
                                            const ProfileReader &profile, size_t limit,
                                            const ComparedLayers &progress) {
  if (Status s = checkSameProblem(package, profile); !s)
    return s.takeError();
  auto digest = profile.digest();
  if (!digest)
    return digest.takeError();
  auto tau = shareStepsTau(package);
  if (!tau)
    return tau.takeError();

  const Problem &problem = package.manifest().problem;
  ScheduleComparison result;
  result.supersetPasses = package.manifest().supersetPasses;
  result.sameProfile = *digest == package.manifest().profileDigest;
  EmittedMasks emitted(package);
  Status status = runOrdered(
      problem.layers, std::max(1u, std::thread::hardware_concurrency()),
      [&](size_t layer) {
        return compareLayer(package, profile, uint32_t(layer), *tau, limit, emitted);
      },
      [&](size_t layer, const ScheduleComparison &compared) -> Status {
        append(result, compared, limit);
        if (progress)
          progress(layer + 1, problem.layers);
        return {};
      });
  if (!status)
    return status.takeError();
  return result;
}

std::string differenceText(const BlockDifference &difference) {
  return fmt::format("{}: row {}: key block {} is in the {} but not in the {}",
                     siteName(difference.site), difference.row, difference.block,
                     difference.inPackage ? "package" : "profile",
                     difference.inPackage ? "profile" : "package");
}

} // namespace calibatt

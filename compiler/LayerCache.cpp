// Keys, and whether what was found is what its key promises.
#include "compiler/LayerCache.h"
#include "compiler/LayerEntry.h"

#include "calib_profiles/Profile.h"
#include "runtime/format/Hash.h"
#include "runtime/format/InputFile.h"
#include "runtime/format/Json.h"
#include "runtime/format/PackageTables.h"
#include "runtime/format/ScheduleDecoder.h"

#include <cmath>
#include <fmt/format.h>

namespace calibatt {

namespace {

constexpr const char *kKind = "layer";
/// Raised when what an entry holds changes.
constexpr uint32_t kFormat = 2;

/// SHA-256 of this program: whoever changes a pass must not find what another made.
const Result<std::string> &programDigest() {
  static const Result<std::string> digest = []() -> Result<std::string> {
    auto file = InputFile::open("/proc/self/exe");
    if (!file)
      return file.takeError();
    auto hash = file->sha256();
    if (!hash)
      return hash.takeError();
    return toHex(*hash);
  }();
  return digest;
}

/// Blocks of a site's mask.
uint64_t keptBlocks(const ProfileReader &profile, uint32_t layer, uint32_t head, uint32_t step) {
  const uint64_t blocks = profile.header().blocks();
  return uint64_t(
      std::llround(double(profile.stats(layer, head, step).density) * double(blocks * blocks)));
}

/// Holds a layer that was found against the profile and the options that it is wanted for: what
/// would make the package wrong, or writing it fail. What its masks are is not decoded again.
class LayerCheck {
public:
  LayerCheck(const LoweredLayer &lowered, const ProfileReader &profile, uint32_t layer,
             const CompileOptions &options)
      : lowered(lowered), profile(profile), header(profile.header()), layer(layer),
        options(options) {}

  Status check() const {
    if (Status status = checkReferences(); !status)
      return status;
    for (size_t i = 0; i < lowered.kernels.size(); ++i)
      if (std::string wrong = wrongWith(lowered.kernels[i]); !wrong.empty())
        return Error{fmt::format("kernel {}: {}", i, wrong)};
    return checkRoutes();
  }

private:
  Status checkReferences() const {
    std::vector<uint32_t> depth;
    for (const StoredSchedule &schedule : lowered.schedules) {
      depth.push_back(schedule.reference == kWholeSchedule ? 0 : depth[schedule.reference] + 1);
      if (depth.back() > kMaxScheduleDepth)
        return Error{fmt::format("schedule {} is {} references away from a whole one",
                                 depth.size() - 1, depth.back())};
    }
    return {};
  }

  std::string wrongWith(const LayerKernel &kernel) const {
    const KernelRecord &record = kernel.record;
    if (!isKernelText(kernel.cuda, kernel.symbol, kernel.form))
      return fmt::format("its text is not that of {}", shownName(kernel.symbol));
    if (record.layer != layer || record.step >= header.stepCount())
      return fmt::format("is of layer {}, step {}", record.layer, record.step);
    if (record.heads == 0 || record.heads > header.heads ||
        record.headBase > header.heads - record.heads || (options.perHead && record.heads != 1))
      return fmt::format("covers {} heads from {} on", record.heads, record.headBase);
    const bool needsData = kernel.form == Form::Runs || kernel.form == Form::Table;
    if (needsData != (kernel.schedule != kNone))
      return "has a schedule where there is none to be, or none";
    if (needsData) {
      const StoredSchedule &schedule = lowered.schedules[kernel.schedule];
      if (schedule.form != kernel.form || schedule.tokens != header.tokens() ||
          schedule.heads != record.heads || schedule.visits != record.visits ||
          schedule.imageBytes != kernel.dataBytes)
        return fmt::format("schedule {} is another kernel's", kernel.schedule);
    }
    if (record.orderRule != TileOrder::Stored)
      return needsData && kernel.order.empty() ? "" : "has a rule for its order and none to apply";
    Status order = checkOrder(kernel.order, uint64_t(record.heads) * header.blocks(), "order");
    return order ? "" : order.message();
  }

  /// Every site once, by a kernel that has its head and as many visits as its masks have blocks.
  Status checkRoutes() const {
    const uint32_t steps = header.stepCount();
    std::vector<bool> routed(size_t(header.heads) * steps);
    for (const SiteRoute &route : lowered.routes) {
      auto wrong = [&](const std::string &what) {
        return Error{fmt::format("head {}, step {}: {}", route.head, route.step, what)};
      };
      if (route.head >= header.heads || route.step >= steps)
        return wrong("is no site");
      const size_t site = size_t(route.head) * steps + route.step;
      if (routed[site])
        return wrong("has two kernels");
      routed[site] = true;
      const KernelRecord &record = lowered.kernels[route.kernel].record;
      if (route.head < record.headBase || route.head - record.headBase >= record.heads)
        return wrong(fmt::format("its kernel covers heads {} to {}", record.headBase,
                                 record.headBase + record.heads - 1));
      if (route.head == record.headBase)
        if (Status status = checkVisits(record, route.step); !status)
          return status;
    }
    if (lowered.routes.size() != routed.size())
      return Error{
          fmt::format("has kernels for {} sites of {}", lowered.routes.size(), routed.size())};
    return {};
  }

  Status checkVisits(const KernelRecord &record, uint32_t step) const {
    uint64_t blocks = 0;
    for (uint32_t head = record.headBase; head < record.headBase + record.heads; ++head) {
      if (profile.isRepetitive(layer, head, step))
        return {}; // computes some rows of a dense mask
      blocks += keptBlocks(profile, layer, head, step);
    }
    if (options.shareStepsTau > 0 ? record.visits >= blocks : record.visits == blocks)
      return {};
    return Error{
        fmt::format("step {}: a kernel has {} visits for {} blocks", step, record.visits, blocks)};
  }

  const LoweredLayer &lowered;
  const ProfileReader &profile;
  const ProfileHeader &header;
  uint32_t layer;
  const CompileOptions &options;
};

} // namespace

Result<LayerKey> LayerCache::key(const ProfileReader &profile, uint32_t layer,
                                 const CompileOptions &options) {
  auto content = profile.layerDigest(layer);
  if (!content)
    return content.takeError();
  if (!programDigest())
    return Error{programDigest().message()};
  const ProfileHeader &header = profile.header();
  const Json key = {
      {"format", kFormat},
      {"program", *programDigest()},
      {"layer", layer},
      {"content", *content},
      {"problem",
       {header.model, header.grid.frames, header.grid.height, header.grid.width, header.maxText,
        header.layers, header.heads, header.stepCount(), header.headDim, header.blockSize,
        header.scale, header.criterion.anchors, header.criterion.gamma}},
      {"options",
       {options.arch, options.form ? formName(*options.form) : "auto", options.perHead,
        options.unrollBudgetBytes, options.unrollBudgetSeconds, options.softmax, options.tuning,
        options.tileOrder, options.shareStepsTau}}};
  auto text = writeJson(key, "layer key");
  if (!text)
    return text.takeError();
  Sha256 hash;
  hash.update(*text);
  return LayerKey{toHex(hash.finish()), text.take()};
}

std::optional<LoweredLayer> LayerCache::find(const LayerKey &key, const ProfileReader &profile,
                                             uint32_t layer, const CompileOptions &options,
                                             std::string *problem) const {
  std::optional<std::vector<uint8_t>> entry = store.get(kKind, key.digest, problem);
  if (!entry)
    return std::nullopt;
  auto lowered = decodeLayer(*entry, key.madeFrom);
  Status status =
      lowered ? LayerCheck(*lowered, profile, layer, options).check() : Status(lowered.takeError());
  if (status)
    return lowered.take();
  if (problem)
    *problem = fmt::format("{}: {}", store.path(kKind, key.digest), status.message());
  return std::nullopt;
}

Status LayerCache::put(const LayerKey &key, const LoweredLayer &layer) const {
  auto entry = encodeLayer(layer, key.madeFrom);
  return entry ? store.put(kKind, key.digest, *entry) : Status(entry.takeError());
}

ContentStore::Lock LayerCache::lock(const LayerKey &key, const std::atomic<bool> *cancel) const {
  return store.lock(kKind, key.digest, cancel);
}

} // namespace calibatt

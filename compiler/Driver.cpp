// The order of a compile, and what goes from its steps into the package.
#include "compiler/Driver.h"

#include "calib_profiles/Profile.h"
#include "compiler/CacheNotes.h"
#include "compiler/CostModel.h"
#include "compiler/KernelBuild.h"
#include "compiler/LayerCache.h"
#include "compiler/MemoryGate.h"
#include "compiler/Shards.h"
#include "runtime/format/OrderedPool.h"
#include "runtime/format/OutputFolder.h"
#include "runtime/format/PackageRemarks.h"
#include "runtime/format/Quantity.h"

#include <chrono>
#include <filesystem>
#include <fmt/format.h>
#include <numeric>
#include <optional>
#include <set>
#include <unordered_map>
#include <utility>

namespace fs = std::filesystem;

namespace calibatt {

namespace {

using Clock = std::chrono::steady_clock;

double secondsSince(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

Problem problemOf(const ProfileHeader &header) {
  Problem problem;
  problem.model = header.model;
  problem.frames = header.grid.frames;
  problem.height = header.grid.height;
  problem.width = header.grid.width;
  problem.tokens = uint32_t(header.tokens());
  problem.maxText = header.maxText;
  problem.layers = header.layers;
  problem.heads = header.heads;
  problem.steps = header.stepCount();
  problem.headDim = header.headDim;
  problem.block = header.blockSize;
  problem.scale = header.scale;
  problem.dtype = header.dtype;
  return problem;
}

/// One compile: options, and what has been made so far.
class Compile {
public:
  Compile(const CompileOptions &options, const CompileEvents &events)
      : options(options), events(events) {}

  Result<CompileReport> run();

private:
  Status prepare();
  Result<LoweredLayer> lowerThroughCache(uint32_t layer);
  void tell(const LoweredLayer &lowered) const;
  Status lower();
  Status dumpIr(const LoweredLayer &lowered, const std::string &name);
  Status takeLayer(uint32_t layer, LoweredLayer lowered);
  std::vector<uint32_t> takeSchedules(std::vector<StoredSchedule> schedules);
  Result<uint32_t> takeKernel(LayerKernel kernel, const std::vector<uint32_t> &schedules,
                              uint64_t sites);
  void predict();
  Status compile();
  void keepRemark(const std::string &text, uint32_t layer = kNone);
  /// Keeps a remark that no pass has told already, and tells it.
  void remark(const std::string &text);

  const CompileOptions &options;
  const CompileEvents &events;
  std::optional<ProfileReader> profile;
  std::optional<KernelBuild> build;
  std::optional<LayerCache> layers;
  std::vector<uint32_t> ours; ///< the layers to compile, ascending
  std::atomic<uint32_t> cachedLayers{0};
  std::atomic<bool> cacheFailed{false};
  CacheNotes cacheNotes;
  std::optional<OutputFolder> dump;
  std::optional<PackageWriter> writer;                ///< in a dry run only for what it counts
  std::vector<KernelSource> sources;                  ///< distinct
  std::unordered_map<std::string, uint32_t> sourceOf; ///< by symbol
  std::vector<KernelRecord> records;
  struct Route {
    uint32_t layer, head, step, kernel;
  };
  std::vector<Route> routes;
  CompileReport report;
};

void Compile::remark(const std::string &text) {
  keepRemark(text);
  if (events.remark)
    events.remark(text);
}

void Compile::keepRemark(const std::string &text, uint32_t layer) {
  report.remarks.push_back(text);
  writer->addRemark(text, layer);
}

/// Everything that can fail early: before hours of lowering, not after.
Status Compile::prepare() {
  if (Status known = checkArchitecture(options.arch); !known)
    return known;
  auto opened = ProfileReader::open(options.profile);
  if (!opened)
    return opened.takeError();
  profile.emplace(opened.take());
  if (!options.dumpFolder.empty()) {
    auto folder = OutputFolder::make(options.dumpFolder);
    if (!folder)
      return folder.takeError();
    dump.emplace(folder.take());
  }
  const ProfileHeader &header = profile->header();
  report.profile = options.profile;
  report.output = options.output;
  report.model = header.model;
  report.arch = options.arch;
  report.dryRun = options.dryRun;
  if (options.shard) {
    auto shard = layersOfShard(*profile, *options.shard);
    if (!shard)
      return shard.takeError();
    ours = shard.take();
    report.shard = options.shard;
    report.shardLayers = ours;
  } else {
    ours.resize(header.layers);
    std::iota(ours.begin(), ours.end(), 0);
  }
  report.layers = uint32_t(ours.size());
  report.heads = header.heads;
  report.steps = header.stepCount();
  report.tokens = header.tokens();
  if (!options.cacheFolder.empty()) {
    auto store = ContentStore::open(options.cacheFolder);
    if (!store)
      return store.takeError();
    layers.emplace(store.take());
  }
  Manifest manifest;
  manifest.problem = problemOf(header);
  manifest.granularity = options.perHead ? "head" : "step";
  manifest.repetition = {header.criterion.gamma, header.criterion.anchors};
  manifest.archs = {options.arch};
  manifest.steps = header.steps;
  if (options.shareStepsTau > 0)
    manifest.supersetPasses.push_back({kShareStepsPass, options.shareStepsTau});
  if (options.shard)
    manifest.shard =
        Shard{options.shard->index, options.shard->count, ours, shapingOptions(options),
              std::vector<std::vector<std::string>>(ours.size())};
  if (options.dryRun) {
    writer.emplace(std::move(manifest));
    return {};
  }

  std::error_code ignored;
  if (fs::equivalent(options.profile, options.output, ignored))
    return Error{fmt::format("{}: is the profile; the package needs another name", options.output)};
  // Made and thrown away: says now what would fail at the end.
  if (auto probe = AtomicFile::create(options.output); !probe)
    return probe.takeError();
  auto tools = KernelBuild::open(options);
  if (!tools)
    return tools.takeError();
  build.emplace(tools.take());
  report.toolchain = build->toolchain();
  report.toolFiles = build->files();

  auto digest = profile->digest();
  if (!digest)
    return digest.takeError();
  manifest.profileDigest = digest.take();
  manifest.toolchain = fmt::format("calibatt {}, {}", CALIBATT_VERSION, build->toolchain());
  manifest.toolchainDigest = build->toolchainDigest();
  manifest.minDriver = build->minDriver();
  writer.emplace(std::move(manifest));
  return {};
}

/// Returns their indices in the package, and counts what is new.
std::vector<uint32_t> Compile::takeSchedules(std::vector<StoredSchedule> schedules) {
  struct Bytes {
    uint64_t image, stored;
  };
  std::vector<Bytes> bytes;
  bytes.reserve(schedules.size());
  for (const StoredSchedule &schedule : schedules)
    bytes.push_back({schedule.imageBytes, schedule.content.frame.size()});
  std::vector<uint32_t> indices = writer->addSchedules(std::move(schedules));
  for (size_t i = 0; i < indices.size(); ++i)
    if (indices[i] >= report.dataImages) {
      report.dataImages = indices[i] + 1;
      report.dataBytes += bytes[i].image;
      report.storedScheduleBytes += bytes[i].stored;
    }
  return indices;
}

/// Returns the kernel's index.
Result<uint32_t> Compile::takeKernel(LayerKernel kernel, const std::vector<uint32_t> &schedules,
                                     uint64_t sites) {
  auto [entry, isNew] = sourceOf.try_emplace(kernel.symbol, uint32_t(sources.size()));
  KernelSummary summary;
  summary.code = entry->second;
  if (isNew) {
    CodeSummary code;
    code.symbol = kernel.symbol;
    code.form = kernel.form;
    code.predictedBytes = kernel.predictedCodeBytes;
    code.predictedSeconds = kernel.predictedSeconds;
    report.codes.push_back(std::move(code));
    if (dump)
      if (Status s = dump->write(kernel.symbol + ".cu", kernel.cuda); !s)
        return s.takeError();
    sources.push_back({kernel.symbol, std::move(kernel.cuda), kernel.form, kernel.dynamicSmem,
                       kernel.persistent});
  } else if (sources[entry->second].cuda != kernel.cuda) {
    return Error{fmt::format("{}: names two kernels that differ", kernel.symbol)};
  }
  ++report.codes[entry->second].kernels;

  KernelRecord record = kernel.record;
  record.code = entry->second;
  if (kernel.schedule != kNone)
    record.data = schedules[kernel.schedule];
  if (record.orderRule == TileOrder::Stored)
    record.order = writer->addOrder(kernel.order);
  summary.dense = record.layer == kNone;
  summary.layer = summary.dense ? 0 : record.layer;
  summary.step = summary.dense ? 0 : record.step;
  summary.headBase = record.headBase;
  summary.heads = record.heads;
  summary.sites = sites;
  summary.visits = record.visits;
  summary.dataBytes = kernel.dataBytes;
  summary.predictedMicros = record.predictedMicros;
  summary.reason = record.reason;
  report.kernels.push_back(std::move(summary));
  records.push_back(std::move(record));
  return uint32_t(records.size() - 1);
}

Status Compile::dumpIr(const LoweredLayer &lowered, const std::string &name) {
  if (!dump)
    return {};
  auto text = irText(lowered);
  return text ? dump->write(name, *text) : Status(text.takeError());
}

Status Compile::takeLayer(uint32_t layer, LoweredLayer lowered) {
  if (Status s = dumpIr(lowered, fmt::format("layer{:03}.mlir", layer)); !s)
    return s;
  std::vector<uint64_t> sites(lowered.kernels.size(), 0);
  for (const SiteRoute &route : lowered.routes)
    ++sites[route.kernel];
  const std::vector<uint32_t> schedules = takeSchedules(std::move(lowered.schedules));
  std::vector<uint32_t> numbers;
  for (size_t i = 0; i < lowered.kernels.size(); ++i) {
    auto number = takeKernel(std::move(lowered.kernels[i]), schedules, sites[i]);
    if (!number)
      return number.takeError();
    numbers.push_back(*number);
  }
  std::set<std::pair<uint32_t, uint32_t>> launches; // (step, kernel)
  for (const SiteRoute &route : lowered.routes) {
    const uint32_t number = numbers[route.kernel];
    routes.push_back({layer, route.head, route.step, number});
    if (!launches.emplace(route.step, number).second)
      continue;
    KernelSummary &summary = report.kernels[number];
    ++summary.launches;
    report.visits += summary.visits;
    report.predictedMicros += summary.predictedMicros;
  }
  report.profileMasks += lowered.dedup.profileMasks;
  report.masks += lowered.dedup.masks;
  report.rows += lowered.dedup.rows;
  report.rowClasses += lowered.dedup.rowClasses;
  for (const std::string &text : lowered.remarks)
    keepRemark(text, layer);
  for (uint32_t head = 0; head < report.heads; ++head)
    for (uint32_t step = 0; step < report.steps; ++step) {
      SiteStats stats = profile->stats(layer, head, step);
      writer->setStats(layer, head, step, {stats.keptMass, stats.density, stats.repetition});
    }
  writer->setIr(layer, std::move(lowered.storedIr));
  return {};
}

/// What lowering a layer takes, in times of its masks: they are decoded, in the IR, and as rows and
/// runs of every step. Measured at 480p and 720p.
constexpr uint64_t kLoweringMasks = 6;

Result<LoweredLayer> Compile::lowerThroughCache(uint32_t layer) {
  if (!layers)
    return lowerLayer(*profile, layer, options);
  auto key = LayerCache::key(*profile, layer, options);
  if (!key)
    return key.takeError();
  std::string problem;
  auto find = [&] {
    problem.clear();
    auto found = layers->find(*key, *profile, layer, options, &problem);
    cachedLayers += found.has_value();
    return found;
  };
  if (auto found = find())
    return std::move(*found);
  const ContentStore::Lock lock = layers->lock(*key, events.cancel);
  if (auto found = find())
    return std::move(*found);
  if (events.cancelled())
    return Error{"interrupted"};
  cacheNotes.add(problem);
  auto lowered = lowerLayer(*profile, layer, options);
  // The package does not need the cache: a full disk there costs time, not the compile. Told once.
  if (lowered)
    if (Status stored = layers->put(*key, *lowered);
        !stored && !cacheFailed.exchange(true) && events.warning)
      events.warning("cache: " + stored.message());
  return lowered;
}

/// What the passes had to say, as soon as the layer is there.
void Compile::tell(const LoweredLayer &lowered) const {
  for (const std::string &text : lowered.warnings)
    if (events.warning)
      events.warning(options.profile + text);
  for (const std::string &text : lowered.remarks)
    if (events.layerRemark)
      events.layerRemark(text);
}

Status Compile::lower() {
  const ProfileHeader &header = profile->header();
  const uint64_t layerBytes = kLoweringMasks * header.heads * header.stepCount() * header.blocks() *
                              ((header.blocks() + 7) / 8);
  MemoryGate memory(availableMemory() / 8 * 7);
  auto work = [&](size_t index) -> Result<LoweredLayer> {
    const MemoryGate::Room room(memory, layerBytes);
    if (events.cancelled())
      return Error{"interrupted"};
    auto lowered = lowerThroughCache(ours[index]);
    if (lowered)
      tell(*lowered);
    return lowered;
  };
  Status status = runOrdered(ours.size(), options.jobs, work,
                             [&](size_t index, LoweredLayer lowered) -> Status {
                               if (events.progress)
                                 events.progress("lowering layers", index + 1, ours.size());
                               return takeLayer(ours[index], std::move(lowered));
                             });
  if (!status)
    return status;
  report.cachedLayers = cachedLayers;
  cacheNotes.tell("layer", events);
  uint64_t all = uint64_t(report.layers) * report.heads * report.steps, repetitive = 0;
  for (uint32_t layer : ours)
    for (uint32_t head = 0; head < report.heads; ++head)
      for (uint32_t step = 0; step < report.steps; ++step)
        repetitive += profile->isRepetitive(layer, head, step);
  report.computed = double(report.visits) / (double(all) * header.blocks() * header.blocks());
  if (repetitive)
    remark(repetitionRemark(repetitive, all));

  auto dense = lowerDenseKernel(*profile, options);
  if (!dense)
    return dense.takeError();
  if (Status s = dumpIr(*dense, "dense.mlir"); !s)
    return s;
  const std::vector<uint32_t> schedules = takeSchedules(std::move(dense->schedules));
  auto number = takeKernel(std::move(dense->kernels.front()), schedules, 0);
  if (!number)
    return number.takeError();
  writer->setDenseKernel(*number);
  return {};
}

/// Lowering has been done by now, and most of the package is there: what is not is predicted from
/// the code that the cost model predicts. Measured on packages of every form: a byte of code is a
/// third of one in its compressed image, and as much again of PTX and CUDA text.
void Compile::predict() {
  constexpr double kImageShare = 0.35, kTextShare = 0.35;
  constexpr uint64_t kSiteBytes = 16, kKernelBytes = 52, kDataBytes = 84, kHeaderBytes = 8192;
  std::vector<double> seconds;
  uint64_t bytes = kHeaderBytes + writer->storedBytes() + kDataBytes * report.dataImages +
                   kSiteBytes * report.layers * report.heads * report.steps;
  for (const KernelSummary &kernel : report.kernels)
    bytes += kKernelBytes + kernel.reason.size();
  for (const CodeSummary &code : report.codes) {
    seconds.push_back(code.predictedSeconds);
    bytes += uint64_t((kImageShare + kTextShare) * double(code.predictedBytes));
  }
  report.predictedPackageBytes = bytes;
  report.predictedSeconds = report.lowerSeconds + makespan(std::move(seconds), options.jobs);
}

Status Compile::compile() {
  auto built = build->compile(sources, options.jobs, events);
  if (!built)
    return built.takeError();
  std::vector<uint32_t> codes;
  for (size_t i = 0; i < built->images.size(); ++i) {
    const CodeImage &image = built->images[i];
    report.codes[i].take(image);
    if (std::string text = spillRemark(image); !text.empty())
      remark(text);
    codes.push_back(writer->addCode(image));
  }
  report.cachedCodes = built->cached;
  for (KernelRecord &record : records) {
    record.code = codes[record.code];
    writer->addKernel(record);
  }
  for (const Route &route : routes)
    writer->setRoute(route.layer, route.head, route.step, route.kernel);
  return {};
}

Result<CompileReport> Compile::run() {
  auto begin = Clock::now();
  if (Status status = prepare(); !status)
    return status.takeError();
  auto lowering = Clock::now();
  if (Status status = lower(); !status)
    return status.takeError();
  report.lowerSeconds = secondsSince(lowering);
  predict();
  if (events.mayCompile)
    if (Status status = events.mayCompile(); !status)
      return status.takeError();
  if (!options.dryRun) {
    auto compiling = Clock::now();
    if (Status status = compile(); !status)
      return status.takeError();
    report.compileSeconds = secondsSince(compiling);
    if (events.cancelled())
      return Error{"interrupted"};
    auto written = [&](uint64_t bytes) {
      report.packageBytes = bytes;
      report.totalSeconds = secondsSince(begin);
      return events.beforeOutput ? events.beforeOutput(report) : Status();
    };
    if (Status status = writer->write(options.output, written); !status)
      return status.takeError();
  }
  if (options.dryRun)
    report.totalSeconds = secondsSince(begin);
  return std::move(report);
}

} // namespace

Result<CompileReport> compilePackage(const CompileOptions &options, const CompileEvents &events) {
  return Compile(options, events).run();
}

} // namespace calibatt

// Collects a package and writes it; what is wrong is said by write().
#include "runtime/format/PackageTables.h"
#include "runtime/format/ScheduleEncoder.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <functional>

namespace calibatt {
namespace {

/// A data image: what write() compares a kernel record with, and what goes into the tables.
struct DataFacts {
  Form form = Form::Runs;
  uint32_t tokens = 0, heads = 0;
  uint64_t visits = 0, imageBytes = 0;
  Xxh128Digest imageHash{};
  uint32_t reference = kNone, depth = 0;
  std::string error; ///< where it is no image
};

/// Short texts, each once, that are read at open: not compressed.
struct StringTable {
  std::map<std::string, uint32_t> numbers;
  std::vector<uint8_t> bytes;
  std::vector<uint64_t> ends;

  uint32_t add(const std::string &text) {
    auto [entry, isNew] = numbers.emplace(text, uint32_t(ends.size()));
    if (isNew) {
      bytes.insert(bytes.end(), text.begin(), text.end());
      ends.push_back(bytes.size());
    }
    return entry->second;
  }
};

template <typename T> std::vector<uint8_t> bytesOf(const std::vector<T> &values) {
  const uint8_t *data = reinterpret_cast<const uint8_t *>(values.data());
  return {data, data + values.size() * sizeof(T)};
}

/// One column of `rows`: a member or what a function makes of each row.
template <typename T, typename Row, typename Get>
std::vector<uint8_t> column(const std::vector<Row> &rows, Get get) {
  std::vector<T> values;
  values.reserve(rows.size());
  for (const Row &row : rows)
    values.push_back(T(std::invoke(get, row)));
  return bytesOf(values);
}

} // namespace

struct PackageWriter::Impl {
  explicit Impl(Manifest manifest) : manifest(std::move(manifest)) {}

  Manifest manifest;
  bool validProblem = false;
  std::vector<CodeImage> codes; ///< without fatbin, cuda and ptx
  struct CodeItems {
    uint32_t fatbin, cuda, ptx;
  };
  std::vector<CodeItems> codeItems;
  std::map<Sha256Digest, uint32_t> knownCodes;
  ChunkPoolWriter code{"code", ChunkHash::Sha256};
  ChunkPoolWriter data{"data", ChunkHash::Xxh128};
  ChunkPoolWriter order{"order", ChunkHash::Xxh128};
  ChunkPoolWriter text{"text", ChunkHash::Xxh128};
  std::vector<DataFacts> dataFacts;
  std::map<Xxh128Digest, uint32_t> knownData; ///< by image: the one that takes least decoding
  std::vector<uint64_t> orderRows;
  std::vector<KernelRecord> kernels;
  std::vector<uint32_t> routes, ir;
  std::vector<PackageSiteStats> stats;
  uint32_t denseKernel = kNone;
  std::string firstError;

  void fail(const std::string &message) {
    if (firstError.empty())
      firstError = message;
  }
  /// Index of a site, or nothing (and an error) where it is outside the problem.
  std::optional<size_t> site(uint32_t layer, uint32_t head, uint32_t step, const char *what);
  Status check(const std::string &path) const;
  Status checkKernels(const std::string &path) const;
  std::vector<PackageTable> tables() const;
};

PackageWriter::PackageWriter(Manifest manifest) : impl(new Impl(std::move(manifest))) {
  const Problem &p = impl->manifest.problem;
  // write() names what is wrong; until then nothing is sized by it.
  impl->validProblem = bool(checkManifest(impl->manifest, ""));
  if (impl->validProblem) {
    size_t sites = size_t(p.layers) * p.heads * p.steps;
    impl->routes.assign(sites, kNone);
    impl->stats.resize(sites);
    impl->ir.assign(p.layers, kNone);
    const ItemLimits limits = itemLimits(p);
    impl->code.limitItems(limits.code);
    impl->data.limitItems(limits.data);
    impl->order.limitItems(limits.order);
    impl->text.limitItems(limits.text);
  }
}

PackageWriter::~PackageWriter() = default;
PackageWriter::PackageWriter(PackageWriter &&) noexcept = default;

uint32_t PackageWriter::addCode(const CodeImage &image) {
  Sha256 hash;
  for (const std::string *text : {&image.symbol, &image.arch, &image.cuda, &image.ptx}) {
    hash.update(fmt::format("{} ", text->size()));
    hash.update(*text);
  }
  hash.update(fmt::format("{} ", unsigned(image.form)));
  hash.update(image.fatbin);
  auto [known, isNew] = impl->knownCodes.emplace(hash.finish(), uint32_t(impl->codes.size()));
  if (!isNew)
    return known->second;
  impl->codeItems.push_back(
      {impl->code.add(image.fatbin), impl->text.add(image.cuda), impl->text.add(image.ptx)});
  CodeImage info = image;
  info.fatbin = {};
  info.cuda = {};
  info.ptx = {};
  impl->codes.push_back(std::move(info));
  return known->second;
}

uint32_t PackageWriter::addData(const std::vector<uint8_t> &image) {
  const std::string name = fmt::format("data image {}", impl->data.count());
  DataFacts facts;
  if (Result<ScheduleMasks> masks = masksOfImage(image, name)) {
    ScheduleEncoder encoder;
    Result<uint32_t> added = encoder.add(masks.take(), image);
    if (added)
      return addSchedules(encoder.take()).front();
    facts.error = added.message();
  } else {
    facts.error = masks.message();
  }
  impl->dataFacts.push_back(std::move(facts));
  return impl->data.append({});
}

std::vector<uint32_t> PackageWriter::addSchedules(std::vector<StoredSchedule> schedules) {
  std::vector<uint32_t> indices;
  for (StoredSchedule &schedule : schedules) {
    DataFacts facts{schedule.form,
                    schedule.tokens,
                    schedule.heads,
                    schedule.visits,
                    schedule.imageBytes,
                    schedule.imageHash,
                    kNone,
                    0,
                    {}};
    if (schedule.reference != kWholeSchedule) {
      facts.reference = indices[schedule.reference];
      facts.depth = impl->dataFacts[facts.reference].depth + 1;
    }
    auto [known, isNew] = impl->knownData.try_emplace(facts.imageHash, impl->data.count());
    // What refers to this one must not take more decoding than its encoder allowed.
    if (isNew || impl->dataFacts[known->second].depth > facts.depth) {
      known->second = impl->data.append(std::move(schedule.content));
      impl->dataFacts.push_back(std::move(facts));
    }
    indices.push_back(known->second);
  }
  return indices;
}

uint32_t PackageWriter::addOrder(const std::vector<uint16_t> &order) {
  uint32_t index = impl->order.add(bytesOf(order));
  if (index == impl->orderRows.size()) {
    impl->orderRows.push_back(order.size());
    Status status = checkOrder(order, order.size(), fmt::format("order {}", index));
    if (!status)
      impl->fail(status.message());
  }
  return index;
}

uint32_t PackageWriter::addKernel(const KernelRecord &record) {
  impl->kernels.push_back(record);
  return uint32_t(impl->kernels.size() - 1);
}

std::optional<size_t> PackageWriter::Impl::site(uint32_t layer, uint32_t head, uint32_t step,
                                                const char *what) {
  const Problem &p = manifest.problem;
  if (!validProblem)
    return std::nullopt;
  if (layer < p.layers && head < p.heads && step < p.steps)
    return (size_t(layer) * p.heads + head) * p.steps + step;
  fail(fmt::format("{}: layer {}, head {}, step {} is outside {} layers, {} heads, {} steps", what,
                   layer, head, step, p.layers, p.heads, p.steps));
  return std::nullopt;
}

void PackageWriter::setRoute(uint32_t layer, uint32_t head, uint32_t step, uint32_t kernel) {
  if (std::optional<size_t> site = impl->site(layer, head, step, "route"))
    impl->routes[*site] = kernel;
}

void PackageWriter::setStats(uint32_t layer, uint32_t head, uint32_t step, PackageSiteStats stats) {
  auto finite = [](float value) { return value >= -1e6f && value <= 1e6f; };
  if (!finite(stats.keptMass) || !finite(stats.density) || !finite(stats.repetition))
    return impl->fail(fmt::format("stats: layer {}, head {}, step {} has kept mass {}, density {}, "
                                  "repetition {}, wanted finite numbers",
                                  layer, head, step, stats.keptMass, stats.density,
                                  stats.repetition));
  if (std::optional<size_t> site = impl->site(layer, head, step, "stats"))
    impl->stats[*site] = stats;
}

void PackageWriter::setDenseKernel(uint32_t kernel) { impl->denseKernel = kernel; }

void PackageWriter::setIr(uint32_t layer, CompressedItem text) {
  if (!impl->validProblem)
    return;
  if (layer >= impl->ir.size())
    return impl->fail(fmt::format("ir: layer {} is outside {} layers", layer, impl->ir.size()));
  impl->ir[layer] = impl->text.append(std::move(text));
}

void PackageWriter::setIr(uint32_t layer, const std::string &text) {
  Result<CompressedItem> item =
      compressItem(std::span(reinterpret_cast<const uint8_t *>(text.data()), text.size()));
  if (!item)
    return impl->fail(item.message());
  setIr(layer, item.take());
}

uint64_t PackageWriter::storedBytes() const {
  return impl->data.storedBytes() + impl->order.storedBytes() + impl->text.storedBytes();
}

uint32_t PackageWriter::dataCount() const { return impl->data.count(); }

void PackageWriter::addRemark(const std::string &remark, uint32_t layer) {
  impl->manifest.remarks.push_back(remark);
  std::optional<Shard> &shard = impl->manifest.shard;
  if (!shard || layer == kNone)
    return;
  auto place = std::find(shard->layers.begin(), shard->layers.end(), layer);
  if (place == shard->layers.end())
    return impl->fail(fmt::format("remark: layer {} is not of this shard", layer));
  shard->remarks[size_t(place - shard->layers.begin())].push_back(remark);
}

Status PackageWriter::Impl::check(const std::string &path) const {
  if (Status status = checkManifest(manifest, path); !status)
    return status;
  if (!firstError.empty())
    return Error{fmt::format("{}: {}", path, firstError)};
  for (const ChunkPoolWriter *pool : {&code, &data, &order, &text})
    if (!pool->status())
      return Error{fmt::format("{}: {}", path, pool->status().message())};
  for (size_t i = 0; i < codes.size(); ++i)
    if (Status status = checkCode(codes[i], uint32_t(i), path); !status)
      return status;
  if (Status status = checkKernels(path); !status)
    return status;
  return checkRoutes(routes, kernels, denseKernel, manifest, path);
}

Status PackageWriter::Impl::checkKernels(const std::string &path) const {
  const Problem &problem = manifest.problem;
  PackageCounts counts{uint32_t(codes.size()), data.count(), order.count(),
                       uint32_t(kernels.size())};
  for (uint32_t i = 0; i < kernels.size(); ++i) {
    const KernelRecord &kernel = kernels[i];
    if (Status status = checkKernel(kernel, i, codes, counts, problem, path); !status)
      return status;
    uint64_t rows = uint64_t(kernel.heads) * problem.blocks();
    if (kernel.order != kNone && orderRows[kernel.order] != rows)
      return Error{fmt::format("{}: kernel {}: order {} has {} rows, wanted {}", path, i,
                               kernel.order, orderRows[kernel.order], rows)};
    if (kernel.data == kNone)
      continue;
    const DataFacts &facts = dataFacts[kernel.data];
    if (!facts.error.empty())
      return Error{fmt::format("{}: kernel {}: {}", path, i, facts.error)};
    if (facts.form != codes[kernel.code].form || facts.tokens != problem.tokens ||
        facts.heads != kernel.heads || facts.visits != kernel.visits)
      return Error{fmt::format("{}: kernel {}: data image {} has form {}, {} tokens, {} heads, {} "
                               "visits, wanted form {}, {} tokens, {} heads, {} visits",
                               path, i, kernel.data, unsigned(facts.form), facts.tokens,
                               facts.heads, facts.visits, unsigned(codes[kernel.code].form),
                               problem.tokens, kernel.heads, kernel.visits)};
  }
  return {};
}

/// Every table but the pools'.
std::vector<PackageTable> PackageWriter::Impl::tables() const {
  StringTable strings;
  auto string = [&](const std::string &text) { return strings.add(text); };
  std::vector<PackageTable> out;
  uint64_t n = codes.size();
  auto add = [&](const char *name, DType dtype, std::vector<uint8_t> bytes) {
    out.push_back({name, dtype, {n}, std::move(bytes)});
  };
  using U = uint32_t;
  add("code/symbol", DType::U32,
      column<U>(codes, [&](const CodeImage &c) { return string(c.symbol); }));
  add("code/arch", DType::U32,
      column<U>(codes, [&](const CodeImage &c) { return string(c.arch); }));
  add("code/form", DType::U32, column<U>(codes, &CodeImage::form));
  add("code/registers", DType::U32, column<U>(codes, &CodeImage::registers));
  add("code/spill_stores", DType::U32, column<U>(codes, &CodeImage::spillStores));
  add("code/spill_loads", DType::U32, column<U>(codes, &CodeImage::spillLoads));
  add("code/static_smem", DType::U32, column<U>(codes, &CodeImage::staticSmem));
  add("code/dynamic_smem", DType::U32, column<U>(codes, &CodeImage::dynamicSmem));
  add("code/code_bytes", DType::U32, column<U>(codes, &CodeImage::codeBytes));
  add("code/persistent", DType::U32, column<U>(codes, &CodeImage::persistent));
  add("code/fatbin", DType::U32, column<U>(codeItems, &CodeItems::fatbin));
  add("code/cuda", DType::U32, column<U>(codeItems, &CodeItems::cuda));
  add("code/ptx", DType::U32, column<U>(codeItems, &CodeItems::ptx));
  n = kernels.size();
  add("kernel/code", DType::U32, column<U>(kernels, &KernelRecord::code));
  add("kernel/data", DType::U32, column<U>(kernels, &KernelRecord::data));
  add("kernel/order", DType::U32, column<U>(kernels, &KernelRecord::order));
  add("kernel/order_rule", DType::U32, column<U>(kernels, &KernelRecord::orderRule));
  add("kernel/layer", DType::U32, column<U>(kernels, &KernelRecord::layer));
  add("kernel/step", DType::U32, column<U>(kernels, &KernelRecord::step));
  add("kernel/head_base", DType::U32, column<U>(kernels, &KernelRecord::headBase));
  add("kernel/heads", DType::U32, column<U>(kernels, &KernelRecord::heads));
  add("kernel/visits", DType::U64, column<uint64_t>(kernels, &KernelRecord::visits));
  add("kernel/predicted_us", DType::F32, column<float>(kernels, &KernelRecord::predictedMicros));
  add("kernel/reason", DType::U32,
      column<U>(kernels, [&](const KernelRecord &k) { return string(k.reason); }));
  n = dataFacts.size();
  add("data/reference", DType::U32, column<U>(dataFacts, &DataFacts::reference));
  add("data/image_bytes", DType::U64, column<uint64_t>(dataFacts, &DataFacts::imageBytes));
  out.push_back({"data/image_hash",
                 DType::U8,
                 {n, sizeof(Xxh128Digest)},
                 column<Xxh128Digest>(dataFacts, &DataFacts::imageHash)});
  const Problem &p = manifest.problem;
  const std::vector<uint64_t> sites{p.layers, p.heads, p.steps};
  auto addSites = [&](const char *name, DType dtype, std::vector<uint8_t> bytes) {
    out.push_back({name, dtype, sites, std::move(bytes)});
  };
  addSites("route", DType::U32, bytesOf(routes));
  addSites("stats/kept_mass", DType::F32, column<float>(stats, &PackageSiteStats::keptMass));
  addSites("stats/density", DType::F32, column<float>(stats, &PackageSiteStats::density));
  addSites("stats/repetition", DType::F32, column<float>(stats, &PackageSiteStats::repetition));
  out.push_back({"ir", DType::U32, {ir.size()}, bytesOf(ir)});
  out.push_back({"strings/bytes", DType::U8, {strings.bytes.size()}, strings.bytes});
  out.push_back({"strings/ends", DType::U64, {strings.ends.size()}, bytesOf(strings.ends)});
  return out;
}

Status PackageWriter::write(const std::string &path,
                            const std::function<Status(uint64_t bytes)> &beforeRename) const {
  if (Status status = impl->check(path); !status)
    return status;
  Result<SafetensorsWriter> file = SafetensorsWriter::create(path);
  if (!file)
    return file.takeError();
  std::vector<PackageTable> tables = impl->tables();
  for (const ChunkPoolWriter *pool : {&impl->code, &impl->data, &impl->order, &impl->text})
    if (Status status = pool->writePool(*file, tables); !status)
      return status;
  std::vector<DigestEntry> entries;
  for (const PackageTable &table : tables) {
    entries.push_back({table.name, table.dtype, table.shape, table.bytes});
    // The pools themselves are in the file already.
    if (table.bytes.empty() && table.name.ends_with("/pool"))
      continue;
    if (Status status = file->add(table.name, table.dtype, table.shape, table.bytes); !status)
      return status;
  }
  Result<std::string> manifest =
      writeJson(manifestToJson(impl->manifest, impl->denseKernel), path + ": manifest");
  if (!manifest)
    return manifest.takeError();
  file->setMetadata(kManifestKey, *manifest);
  if (Status status = setDigests(*file, *manifest, entries); !status)
    return status;
  return file->finish(beforeRename);
}

} // namespace calibatt

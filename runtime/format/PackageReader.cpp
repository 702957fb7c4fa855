// Opens a package: digest first, then every table against every other, so that
// the calls below need no checks but those of the chunks they read.
#include "runtime/format/InputFile.h"
#include "runtime/format/PackageTables.h"
#include "runtime/format/ScheduleDecoder.h"
#include "runtime/format/ScheduleEncoder.h"
#include "runtime/format/ScheduleImage.h"

#include <fmt/format.h>

#include <cmath>
#include <cstring>
#include <map>
#include <mutex>

namespace calibatt {

struct PackageReader::Impl {
  explicit Impl(SafetensorsReader file) : file(std::move(file)) {}

  SafetensorsReader file;
  Manifest manifest;
  uint32_t denseKernel = kNone;
  ChunkPoolReader code, data, order, text;
  std::vector<std::string> strings;
  std::vector<CodeImage> codes;
  std::vector<uint32_t> codeFatbin, codeCuda, codePtx;
  std::vector<KernelRecord> kernels;
  std::vector<uint32_t> routes, ir;
  std::vector<uint32_t> reference; ///< of a data image
  std::vector<uint64_t> imageBytes;
  std::span<const uint8_t> imageHash;
  std::vector<float> keptMass, density, repetition;
  std::mutex gridMutex;
  std::map<uint32_t, AnchorGrid> grids; ///< by code, of those asked for

  size_t site(uint32_t layer, uint32_t head, uint32_t step) const {
    const Problem &p = manifest.problem;
    return (size_t(layer) * p.heads + head) * p.steps + step;
  }
  Status load(std::optional<bool> shard);
  Status loadManifest();
  Status loadPools();
  Status loadStrings();
  Status loadCodes();
  Status loadSchedules();
  Status loadKernels();
  Status loadSites();
};

namespace {

/// Reads the columns of one table; the first error is kept.
class Columns {
public:
  Columns(const SafetensorsReader &file, std::vector<uint64_t> shape)
      : file(file), shape(std::move(shape)) {}

  template <typename T> std::vector<T> read(const char *name, DType dtype) {
    Result<TensorView> view = file.tensor(name, dtype, shape);
    if (view)
      return view->copy<T>();
    fail(view.message());
    return {};
  }
  std::vector<uint32_t> u32(const char *name) { return read<uint32_t>(name, DType::U32); }
  /// Numbers below `count`, or kNone where `optional`.
  std::vector<uint32_t> indices(const char *name, uint64_t count, bool optional = false) {
    std::vector<uint32_t> values = u32(name);
    for (size_t i = 0; i < values.size(); ++i)
      if (values[i] >= count && !(optional && values[i] == kNone))
        fail(fmt::format("{}: {}: entry {} is {}, but there are {}", file.path(), name, i,
                         values[i], count));
    return values;
  }
  std::vector<float> finite(const char *name) {
    std::vector<float> values = read<float>(name, DType::F32);
    for (size_t i = 0; i < values.size(); ++i)
      if (!std::isfinite(values[i]))
        fail(fmt::format("{}: {}: entry {} is {}", file.path(), name, i, values[i]));
    return values;
  }
  void fail(const std::string &message) {
    if (first.empty())
      first = message;
  }
  Status status() const { return first.empty() ? Status() : Status(Error{first}); }

private:
  const SafetensorsReader &file;
  std::vector<uint64_t> shape;
  std::string first;
};

} // namespace

Status PackageReader::Impl::load(std::optional<bool> shard) {
  if (Status status = loadManifest(); !status)
    return status;
  if (const auto &part = manifest.shard; part && shard == false)
    return Error{fmt::format("{}: is shard {} of {} of a package: calibatt merge makes the package "
                             "of all of them",
                             file.path(), part->index, part->count)};
  if (!manifest.shard && shard == true)
    return Error{fmt::format("{}: is a whole package, wanted a shard", file.path())};
  for (auto part : {&Impl::loadPools, &Impl::loadStrings, &Impl::loadCodes, &Impl::loadSchedules,
                    &Impl::loadKernels, &Impl::loadSites})
    if (Status status = (this->*part)(); !status)
      return status;
  return {};
}

Status PackageReader::Impl::loadManifest() {
  const std::string &path = file.path();
  const std::string *text = file.metadata(kManifestKey);
  if (!text)
    return Error{fmt::format("{}: is no package: __metadata__ has no \"{}\"", path, kManifestKey)};
  // The version first: another version may hash another way.
  Result<ParsedManifest> parsed = manifestFromJson(*text, path);
  if (!parsed)
    return parsed.takeError();
  if (Status status = checkDigest(file, *text); !status)
    return status;
  manifest = std::move(parsed->manifest);
  denseKernel = parsed->denseKernel;
  return {};
}

Status PackageReader::Impl::loadPools() {
  struct Pool {
    const char *name;
    ChunkHash hash;
    uint64_t maxItemBytes;
    ChunkPoolReader *reader;
  };
  const ItemLimits limits = itemLimits(manifest.problem);
  for (const Pool &pool : {Pool{"code", ChunkHash::Sha256, limits.code, &code},
                           Pool{"data", ChunkHash::Xxh128, limits.data, &data},
                           Pool{"order", ChunkHash::Xxh128, limits.order, &order},
                           Pool{"text", ChunkHash::Xxh128, limits.text, &text}}) {
    Result<ChunkPoolReader> reader =
        ChunkPoolReader::open(file, pool.name, pool.hash, pool.maxItemBytes);
    if (!reader)
      return reader.takeError();
    *pool.reader = reader.take();
  }
  data.keepNothing(); // ScheduleDecoder keeps what it needs
  return {};
}

Status PackageReader::Impl::loadStrings() {
  constexpr uint64_t kAny = SafetensorsReader::kAnySize;
  Result<TensorView> bytes = file.tensor("strings/bytes", DType::U8, {kAny});
  if (!bytes)
    return bytes.takeError();
  Result<TensorView> ends = file.tensor("strings/ends", DType::U64, {kAny});
  if (!ends)
    return ends.takeError();
  uint64_t begin = 0;
  for (uint64_t i = 0; i < ends->elements(); ++i) {
    uint64_t end = ends->load<uint64_t>(i);
    if (end < begin || end > bytes->data.size())
      return Error{fmt::format("{}: strings/ends: entry {} is {}, wanted {} to {}", file.path(), i,
                               end, begin, bytes->data.size())};
    strings.emplace_back(bytes->data.begin() + int64_t(begin), bytes->data.begin() + int64_t(end));
    begin = end;
  }
  return {};
}

Status PackageReader::Impl::loadCodes() {
  Result<TensorView> symbols =
      file.tensor("code/symbol", DType::U32, {SafetensorsReader::kAnySize});
  if (!symbols)
    return symbols.takeError();
  Columns columns(file, symbols->shape);
  std::vector<uint32_t> symbol = columns.indices("code/symbol", strings.size());
  std::vector<uint32_t> arch = columns.indices("code/arch", strings.size());
  std::vector<uint32_t> form = columns.indices("code/form", unsigned(Form::Table) + 1);
  std::vector<uint32_t> registers = columns.u32("code/registers");
  std::vector<uint32_t> spillStores = columns.u32("code/spill_stores");
  std::vector<uint32_t> spillLoads = columns.u32("code/spill_loads");
  std::vector<uint32_t> staticSmem = columns.u32("code/static_smem");
  std::vector<uint32_t> dynamicSmem = columns.u32("code/dynamic_smem");
  std::vector<uint32_t> codeBytes = columns.u32("code/code_bytes");
  std::vector<uint32_t> persistent = columns.indices("code/persistent", 2);
  codeFatbin = columns.indices("code/fatbin", code.count());
  codeCuda = columns.indices("code/cuda", text.count());
  codePtx = columns.indices("code/ptx", text.count());
  if (Status status = columns.status(); !status)
    return status;
  for (size_t i = 0; i < symbol.size(); ++i) {
    CodeImage image;
    image.symbol = strings[symbol[i]];
    image.arch = strings[arch[i]];
    image.form = Form(form[i]);
    image.registers = registers[i];
    image.spillStores = spillStores[i];
    image.spillLoads = spillLoads[i];
    image.staticSmem = staticSmem[i];
    image.dynamicSmem = dynamicSmem[i];
    image.codeBytes = codeBytes[i];
    image.persistent = persistent[i] != 0;
    if (Status status = checkCode(image, uint32_t(i), file.path()); !status)
      return status;
    codes.push_back(std::move(image));
  }
  return {};
}

Status PackageReader::Impl::loadSchedules() {
  const uint64_t count = data.count();
  Columns columns(file, {count});
  reference = columns.u32("data/reference");
  imageBytes = columns.read<uint64_t>("data/image_bytes", DType::U64);
  if (Status status = columns.status(); !status)
    return status;
  Result<TensorView> hashes =
      file.tensor("data/image_hash", DType::U8, {count, sizeof(Xxh128Digest)});
  if (!hashes)
    return hashes.takeError();
  imageHash = hashes->data;
  const uint64_t most = itemLimits(manifest.problem).image;
  for (size_t i = 0; i < count; ++i)
    if (imageBytes[i] > most)
      return Error{fmt::format("{}: data/image_bytes: entry {} is {}, at most {} are allowed",
                               file.path(), i, imageBytes[i], most)};
  // References go down, so that they end; how many is bounded.
  std::vector<uint32_t> depth(count, 0);
  for (size_t i = 0; i < count; ++i) {
    if (reference[i] == kNone)
      continue;
    if (reference[i] >= i)
      return Error{fmt::format("{}: data/reference: entry {} is {}, wanted a lower one",
                               file.path(), i, reference[i])};
    depth[i] = depth[reference[i]] + 1;
    if (depth[i] > kMaxScheduleDepth)
      return Error{fmt::format("{}: data/reference: entry {} is {} references away from a whole "
                               "schedule, at most {} are allowed",
                               file.path(), i, depth[i], kMaxScheduleDepth)};
  }
  return {};
}

Status PackageReader::Impl::loadKernels() {
  Result<TensorView> codeColumn =
      file.tensor("kernel/code", DType::U32, {SafetensorsReader::kAnySize});
  if (!codeColumn)
    return codeColumn.takeError();
  Columns columns(file, codeColumn->shape);
  std::vector<uint32_t> codeOf = columns.u32("kernel/code"), dataOf = columns.u32("kernel/data");
  std::vector<uint32_t> orderOf = columns.u32("kernel/order");
  std::vector<uint32_t> orderRule = columns.u32("kernel/order_rule");
  std::vector<uint32_t> layer = columns.u32("kernel/layer"), step = columns.u32("kernel/step");
  std::vector<uint32_t> headBase = columns.u32("kernel/head_base");
  std::vector<uint32_t> heads = columns.u32("kernel/heads");
  std::vector<uint64_t> visits = columns.read<uint64_t>("kernel/visits", DType::U64);
  std::vector<float> predicted = columns.finite("kernel/predicted_us");
  std::vector<uint32_t> reason = columns.indices("kernel/reason", strings.size());
  if (Status status = columns.status(); !status)
    return status;
  const Problem &problem = manifest.problem;
  PackageCounts counts{uint32_t(codes.size()), data.count(), order.count(),
                       uint32_t(codeOf.size())};
  for (uint32_t i = 0; i < codeOf.size(); ++i) {
    KernelRecord kernel{codeOf[i], dataOf[i],    orderOf[i],        TileOrder(orderRule[i]),
                        layer[i],  step[i],      headBase[i],       heads[i],
                        visits[i], predicted[i], strings[reason[i]]};
    if (Status status = checkKernel(kernel, i, codes, counts, problem, file.path()); !status)
      return status;
    uint64_t rows = uint64_t(kernel.heads) * problem.blocks();
    if (kernel.order != kNone && order.itemBytes(kernel.order) != rows * sizeof(uint16_t))
      return Error{fmt::format("{}: kernel {}: order {} has {} bytes, wanted {}", file.path(), i,
                               kernel.order, order.itemBytes(kernel.order),
                               rows * sizeof(uint16_t))};
    kernels.push_back(std::move(kernel));
  }
  return {};
}

Status PackageReader::Impl::loadSites() {
  const Problem &p = manifest.problem;
  Columns columns(file, {p.layers, p.heads, p.steps});
  routes = columns.u32("route");
  keptMass = columns.finite("stats/kept_mass");
  density = columns.finite("stats/density");
  repetition = columns.finite("stats/repetition");
  if (Status status = columns.status(); !status)
    return status;
  Columns layers(file, {p.layers});
  ir = layers.indices("ir", text.count(), /*optional=*/true);
  if (Status status = layers.status(); !status)
    return status;
  return checkRoutes(routes, kernels, denseKernel, manifest, file.path());
}

Result<PackageReader> PackageReader::open(const std::string &path) {
  return load(SafetensorsReader::open(path), /*shard=*/false);
}

Result<PackageReader> PackageReader::openShard(const std::string &path) {
  return load(SafetensorsReader::open(path), /*shard=*/true);
}

Result<PackageReader> PackageReader::openAny(const std::string &path) {
  return load(SafetensorsReader::open(path), std::nullopt);
}

Result<PackageReader> PackageReader::openBytes(const std::string &name,
                                               std::span<const uint8_t> bytes) {
  return load(SafetensorsReader::openBytes(name, bytes), /*shard=*/false);
}

Result<PackageReader> PackageReader::load(Result<SafetensorsReader> file,
                                          std::optional<bool> shard) {
  if (!file)
    return file.takeError();
  auto impl = std::make_unique<Impl>(file.take());
  if (Status status = impl->load(shard); !status)
    return status.takeError();
  return PackageReader(std::move(impl));
}

PackageReader::PackageReader(std::unique_ptr<Impl> impl) : impl(std::move(impl)) {}
PackageReader::PackageReader(PackageReader &&) noexcept = default;
PackageReader &PackageReader::operator=(PackageReader &&) noexcept = default;
PackageReader::~PackageReader() = default;

const std::string &PackageReader::path() const { return impl->file.path(); }
const Manifest &PackageReader::manifest() const { return impl->manifest; }
uint32_t PackageReader::codeCount() const { return uint32_t(impl->codes.size()); }
uint32_t PackageReader::dataCount() const { return impl->data.count(); }
uint32_t PackageReader::orderCount() const { return impl->order.count(); }
uint32_t PackageReader::kernelCount() const { return uint32_t(impl->kernels.size()); }

const CodeImage &PackageReader::codeInfo(uint32_t code) const { return impl->codes[code]; }

Result<std::vector<uint8_t>> PackageReader::fatbin(uint32_t code) const {
  return impl->code.item(impl->codeFatbin[code]);
}

Result<std::string> PackageReader::cuda(uint32_t code) const {
  return impl->text.text(impl->codeCuda[code]);
}

Result<AnchorGrid> PackageReader::compiledGrid(uint32_t code) const {
  {
    const std::lock_guard lock(impl->gridMutex);
    if (const auto known = impl->grids.find(code); known != impl->grids.end())
      return known->second;
  }
  Result<std::string> text = cuda(code);
  if (!text)
    return text.takeError();
  const std::lock_guard lock(impl->gridMutex);
  return impl->grids[code] = emittedAnchorGrid(*text);
}

Result<std::string> PackageReader::ptx(uint32_t code) const {
  return impl->text.text(impl->codePtx[code]);
}

Result<std::vector<uint8_t>> PackageReader::data(uint32_t data) const {
  return ScheduleDecoder(*this).image(data);
}

uint64_t PackageReader::dataBytes(uint32_t data) const { return impl->imageBytes[data]; }

Xxh128Digest PackageReader::imageHash(uint32_t data) const {
  Xxh128Digest digest;
  std::memcpy(digest.data(), impl->imageHash.data() + size_t(data) * digest.size(), digest.size());
  return digest;
}

Result<std::vector<uint8_t>> PackageReader::storedSchedule(uint32_t data) const {
  return impl->data.item(data);
}

uint32_t PackageReader::scheduleReference(uint32_t data) const { return impl->reference[data]; }

Result<std::vector<uint16_t>> PackageReader::tileOrder(uint32_t kernel,
                                                       std::span<const uint8_t> image) const {
  const KernelRecord &record = impl->kernels[kernel];
  if (record.orderRule == TileOrder::Stored)
    return order(record.order);
  const uint32_t blocks = impl->manifest.problem.blocks();
  const std::vector<uint32_t> visits = rowVisits(image);
  if (visits.size() != uint64_t(record.heads) * blocks)
    return Error{fmt::format("{}: kernel {}: its data image has {} rows, wanted {}", path(), kernel,
                             visits.size(), uint64_t(record.heads) * blocks)};
  return orderTiles(record.orderRule, visits, blocks);
}

Result<std::vector<uint16_t>> PackageReader::order(uint32_t order) const {
  Result<std::vector<uint8_t>> bytes = impl->order.item(order);
  if (!bytes)
    return bytes.takeError();
  std::vector<uint16_t> rows(bytes->size() / sizeof(uint16_t));
  if (!rows.empty())
    std::memcpy(rows.data(), bytes->data(), rows.size() * sizeof(uint16_t));
  if (Status status = checkOrder(rows, rows.size(), fmt::format("{}: order {}", path(), order));
      !status)
    return status.takeError();
  return rows;
}

const KernelRecord &PackageReader::kernel(uint32_t kernel) const { return impl->kernels[kernel]; }

uint32_t PackageReader::route(uint32_t layer, uint32_t head, uint32_t step) const {
  return impl->routes[impl->site(layer, head, step)];
}

PackageSiteStats PackageReader::stats(uint32_t layer, uint32_t head, uint32_t step) const {
  size_t site = impl->site(layer, head, step);
  return {impl->keptMass[site], impl->density[site], impl->repetition[site]};
}

bool PackageReader::isRepetitive(uint32_t layer, uint32_t head, uint32_t step) const {
  return stats(layer, head, step).repetition >= impl->manifest.repetition.gamma;
}

uint32_t PackageReader::denseKernel() const { return impl->denseKernel; }

Result<std::string> PackageReader::ir(uint32_t layer) const {
  if (layer >= impl->ir.size())
    return Error{
        fmt::format("{}: ir: layer {} is outside {} layers", path(), layer, impl->ir.size())};
  if (impl->ir[layer] == kNone)
    return Error{fmt::format("{}: ir: layer {} has no text", path(), layer)};
  return impl->text.text(impl->ir[layer]);
}

std::vector<PackageReader::DamagedChunk> PackageReader::damagedChunks() const {
  std::vector<DamagedChunk> damaged;
  for (auto [tensor, pool] : {std::pair{"code/pool", &impl->code},
                              {"data/pool", &impl->data},
                              {"order/pool", &impl->order},
                              {"text/pool", &impl->text}})
    for (uint64_t chunk = 0; chunk < pool->chunkCount(); ++chunk)
      if (Status status = pool->checkChunk(chunk); !status)
        damaged.push_back({tensor, chunk, status.message()});
  return damaged;
}

uint64_t PackageReader::chunkCount() const {
  return impl->code.chunkCount() + impl->data.chunkCount() + impl->order.chunkCount() +
         impl->text.chunkCount();
}

uint64_t PackageReader::tensorCount() const { return impl->file.tensors().size(); }

std::vector<PackageReader::Section> PackageReader::sections() const {
  std::vector<Section> sections;
  uint64_t pools = 0;
  auto add = [&](const char *name, const ChunkPoolReader &pool) {
    sections.push_back({name, pool.storedBytes(), pool.rawBytes(), pool.count()});
    pools += pool.storedBytes();
  };
  add("code", impl->code);
  add("schedules", impl->data);
  sections.back().rawBytes = 0; // what they are decoded to are images
  for (uint64_t bytes : impl->imageBytes)
    sections.back().rawBytes += bytes;
  add("orders", impl->order);
  add("text", impl->text);
  uint64_t header = 8 + impl->file.headerBytes().size();
  uint64_t tables = fileBytes() - header - pools;
  sections.push_back({"tables", tables, tables, impl->file.tensors().size() - 4});
  sections.push_back({"manifest", header, header, 1});
  return sections;
}

uint64_t PackageReader::fileBytes() const { return impl->file.file().size(); }

} // namespace calibatt

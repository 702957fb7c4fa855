// Layout of a counts file, and reading it: sizes and small tensors are checked at
// once, every site against its hash when it is read.
#include "calib_profiles/CountsFile.h"
#include "calib_profiles/EnergyUnits.h"
#include "calib_profiles/ProfileHeader.h"
#include "runtime/format/Hash.h"
#include "runtime/format/Quantity.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

namespace calibatt {

namespace {

struct TensorPlan {
  const char *name;
  DType dtype;
  std::vector<uint64_t> perSite; ///< dimensions after [layers, heads, steps]
};

/// The tensors per site in the order of CountsTensor, without those of the other kind.
std::vector<std::pair<CountsTensor, TensorPlan>> siteTensors(CountsKind kind, uint64_t blocks) {
  const bool sums = kind == CountsKind::Sums;
  std::vector<std::pair<CountsTensor, TensorPlan>> tensors = {
      {CountsTensor::SiteHash, {"site_hash", DType::U64, {}}},
      {CountsTensor::Repetition, {"repetition", DType::I64, {}}},
      {CountsTensor::Kept, {"kept", DType::U64, {}}},
      {CountsTensor::RowMax, {"row_max", DType::F32, {}}}};
  if (!sums)
    tensors.push_back({CountsTensor::Best, {"best", DType::U16, {blocks}}});
  tensors.push_back(
      {CountsTensor::Energy,
       {sums ? "energy_sum" : "energy", sums ? DType::U32 : DType::U8, {blocks, blocks}}});
  tensors.push_back({CountsTensor::Count, {"count", DType::U8, {blocks, blocks}}});
  return tensors;
}

PlacedTensor stateTensor() { return {"state", DType::U64, {2}}; }
PlacedTensor promptTensor() {
  return {"prompt_ids", DType::U8, {SiteCounts::kMaxPrompts, kPromptIdBytes}};
}
PlacedTensor digestTensor() { return {"digest", DType::U8, {sizeof(Sha256Digest)}}; }

} // namespace

Result<CountsLayout> CountsLayout::create(const ProfileHeader &header, CountsKind kind,
                                          const std::string &where) {
  Result<std::string> document = encodeHeader(header, where, kCountsFormat);
  if (!document)
    return document.takeError();
  CountsLayout layout;
  layout.kind = kind;
  layout.sites = uint64_t(header.layers) * header.heads * header.stepCount();
  layout.blocks = header.blocks();
  // Side by side, since they change together; 48 bytes leave the others aligned.
  std::vector<PlacedTensor> tensors = {stateTensor(), digestTensor()};
  std::vector<CountsTensor> which = {CountsTensor::State, CountsTensor::Digest};
  for (const auto &[tensor, plan] : siteTensors(kind, layout.blocks)) {
    std::vector<uint64_t> shape = {header.layers, header.heads, header.stepCount()};
    uint64_t bytes = dtypeBytes(plan.dtype);
    for (uint64_t size : plan.perSite) {
      shape.push_back(size);
      bytes *= size;
    }
    layout.bytesPerSite[size_t(tensor)] = bytes;
    tensors.push_back({plan.name, plan.dtype, shape});
    which.push_back(tensor);
  }
  tensors.push_back(promptTensor());
  which.push_back(CountsTensor::PromptIds);
  Result<FilePlan> plan = FilePlan::create(kCountsKey, *document, tensors, where);
  if (!plan)
    return plan.takeError();
  layout.document = document.take();
  layout.plan = plan.take();
  for (size_t i = 0; i < which.size(); ++i)
    layout.offset[size_t(which[i])] = layout.plan.offsets[i];
  return layout;
}

Status checkPromptId(const std::string &id) {
  if (id.empty() || id.size() >= kPromptIdBytes)
    return Error{
        fmt::format("prompt id: got {} bytes, wanted 1 to {}", id.size(), kPromptIdBytes - 1)};
  if (std::any_of(id.begin(), id.end(), [](unsigned char c) { return c < 32 || c == 127; }))
    return Error{"prompt id: has a control character"};
  if (!writeJson(id, "prompt id"))
    return Error{"prompt id: is not UTF-8"};
  return {};
}

std::vector<uint8_t> packPromptIds(const std::vector<std::string> &ids) {
  std::vector<uint8_t> bytes(size_t(SiteCounts::kMaxPrompts) * kPromptIdBytes);
  for (size_t i = 0; i < ids.size(); ++i)
    std::copy(ids[i].begin(), ids[i].end(), bytes.begin() + long(i * kPromptIdBytes));
  return bytes;
}

Sha256Digest countsDigest(const std::string &document, std::span<const uint8_t> state,
                          std::span<const uint8_t> promptIds) {
  Sha256 hash;
  hash.update(fmt::format("{}\n", document.size()));
  hash.update(document);
  hash.update(state);
  hash.update(promptIds);
  return hash.finish();
}

std::string promptsHash(const std::vector<std::string> &ids) {
  Sha256 hash;
  for (const std::string &id : ids)
    hash.update(id + "\n");
  Sha256Digest digest = hash.finish();
  return toHex(digest);
}

ScalarColumns::ScalarColumns(std::span<const SiteScalars> scalars) {
  for (const SiteScalars &s : scalars) {
    repetition.push_back(s.repetition);
    kept.push_back(s.kept);
    rowMax.push_back(s.rowMax);
  }
}

void SiteScalars::addScore(double score) {
  repetition += std::llround(std::clamp(score, -1.0, 1.0) / kRepetitionUnit);
}

float SiteScalars::score(uint32_t prompts) const {
  return float(std::clamp(double(repetition) * kRepetitionUnit / prompts, -1.0, 1.0));
}

uint64_t siteHash(const SiteScalars &scalars, std::span<const uint8_t> best,
                  std::span<const uint8_t> energy, std::span<const uint8_t> count) {
  uint8_t parts[20 + 3 * sizeof(Xxh128Digest)];
  std::memcpy(parts, &scalars.repetition, 8);
  std::memcpy(parts + 8, &scalars.kept, 8);
  std::memcpy(parts + 16, &scalars.rowMax, 4);
  uint8_t *out = parts + 20;
  for (std::span<const uint8_t> bytes : {best, energy, count}) {
    const Xxh128Digest digest = xxh128(bytes);
    out = std::copy(digest.begin(), digest.end(), out);
  }
  const Xxh128Digest whole = xxh128(parts);
  uint64_t value = 0;
  std::memcpy(&value, whole.data(), sizeof value);
  return value;
}

struct CountsReader::Impl {
  SafetensorsReader file;
  std::string document;
  ProfileHeader header;
  CountsLayout layout;
  TensorEntry entries[kCountsTensors];
  TensorView tables[kCountsTensors]; ///< those of a number a site, and the small ones
  std::vector<std::string> prompts;
  std::optional<uint32_t> interrupted;
  bool hasDigest = false;

  Status checkDigest(uint32_t major);
  Status readState();
  Status readPrompts();
  Error atSite(uint64_t site, const std::string &what) const;
};

CountsReader::CountsReader(std::unique_ptr<Impl> i) : impl(std::move(i)) {}
CountsReader::CountsReader(CountsReader &&) noexcept = default;
CountsReader &CountsReader::operator=(CountsReader &&) noexcept = default;
CountsReader::~CountsReader() = default;

const std::string &CountsReader::path() const { return impl->file.path(); }
CountsKind CountsReader::kind() const { return impl->layout.kind; }
const ProfileHeader &CountsReader::header() const { return impl->header; }
const CountsLayout &CountsReader::layout() const { return impl->layout; }
const std::string &CountsReader::document() const { return impl->document; }
const std::vector<std::string> &CountsReader::prompts() const { return impl->prompts; }
std::optional<uint32_t> CountsReader::interrupted() const { return impl->interrupted; }
std::span<const uint8_t> CountsReader::promptIds() const {
  return impl->tables[size_t(CountsTensor::PromptIds)].data;
}
bool CountsReader::hasDigest() const { return impl->hasDigest; }

Result<CountsReader> CountsReader::open(const std::string &path) {
  Result<SafetensorsReader> file = SafetensorsReader::open(path);
  if (!file)
    return file.takeError();
  const std::string *document = file->metadata(kCountsKey);
  if (!document)
    return Error{
        fmt::format("{}: __metadata__ has no \"{}\", so these are no counts", path, kCountsKey)};
  uint32_t major = 0;
  Result<ProfileHeader> header = decodeHeader(*document, kCountsFormat, path, &major);
  if (!header)
    return header.takeError();
  const CountsKind kind = file->find("energy_sum") ? CountsKind::Sums : CountsKind::Means;
  auto impl =
      std::make_unique<Impl>(Impl{file.take(), {}, header.take(), {}, {}, {}, {}, {}, false});
  impl->document = *impl->file.metadata(kCountsKey);
  const ProfileHeader &h = impl->header;
  Result<CountsLayout> layout = CountsLayout::create(h, kind, path);
  if (!layout)
    return layout.takeError();
  impl->layout = layout.take();

  auto view = [&](CountsTensor tensor, const PlacedTensor &wanted) -> Status {
    Result<TensorEntry> found = impl->file.entry(wanted.name, wanted.dtype, wanted.shape);
    if (!found)
      return found.takeError();
    // Where it is in this file, which another program may have written in another order.
    impl->layout.offset[size_t(tensor)] = found->offset;
    if (tensor != CountsTensor::Best && tensor != CountsTensor::Energy &&
        tensor != CountsTensor::Count) {
      Result<TensorView> table = impl->file.load(*found);
      if (!table)
        return table.takeError();
      impl->tables[size_t(tensor)] = table.take();
    }
    impl->entries[size_t(tensor)] = found.take();
    return {};
  };
  if (Status s = view(CountsTensor::State, stateTensor()); !s)
    return s.takeError();
  // Other programs may write a shorter table, to which no prompt can be added.
  constexpr uint64_t kAny = SafetensorsReader::kAnySize;
  if (Status s = view(CountsTensor::PromptIds, {"prompt_ids", DType::U8, {kAny, kAny}}); !s)
    return s.takeError();
  for (const auto &[tensor, plan] : siteTensors(kind, h.blocks())) {
    std::vector<uint64_t> shape = {h.layers, h.heads, h.stepCount()};
    shape.insert(shape.end(), plan.perSite.begin(), plan.perSite.end());
    if (Status s = view(tensor, {plan.name, plan.dtype, shape}); !s)
      return s.takeError();
  }
  if (impl->file.find("digest"))
    if (Status s = view(CountsTensor::Digest, digestTensor()); !s)
      return s.takeError();
  if (Status s = impl->checkDigest(major); !s)
    return s.takeError();
  if (Status s = impl->readState(); !s)
    return s.takeError();
  return CountsReader(std::move(impl));
}

/// A digest that got lost must not make counts look like those of version 1.
Status CountsReader::Impl::checkDigest(uint32_t major) {
  const std::span<const uint8_t> wanted = tables[size_t(CountsTensor::Digest)].data;
  hasDigest = !wanted.empty();
  if (hasDigest != (major > 1))
    return Error{fmt::format("{}: version {}.x with{} a digest, wanted {}", file.path(), major,
                             hasDigest ? "" : "out", hasDigest ? "none before 2.0" : "one")};
  if (!hasDigest)
    return {};
  const Sha256Digest got = countsDigest(document, tables[size_t(CountsTensor::State)].data,
                                        tables[size_t(CountsTensor::PromptIds)].data);
  if (std::equal(got.begin(), got.end(), wanted.begin()))
    return {};
  return Error{fmt::format("{}: document, state or prompt_ids is damaged: their SHA-256 is {}, "
                           "wanted {}",
                           file.path(), toHex(got), toHex(wanted))};
}

Status CountsReader::Impl::readState() {
  const TensorView &state = tables[size_t(CountsTensor::State)];
  const uint64_t folded = state.load<uint64_t>(0), folding = state.load<uint64_t>(1);
  if (folded > SiteCounts::kMaxPrompts)
    return Error{fmt::format("{}: state: {} prompts, wanted at most {}", file.path(), folded,
                             SiteCounts::kMaxPrompts)};
  if (folding != 0 && folding != folded + 1)
    return Error{fmt::format("{}: state: prompt {} is being folded in after {}", file.path(),
                             folding, folded)};
  if (folding != 0)
    interrupted = uint32_t(folding);
  header.prompts = uint32_t(folded);
  return readPrompts();
}

Status CountsReader::Impl::readPrompts() {
  const TensorView &table = tables[size_t(CountsTensor::PromptIds)];
  const uint64_t entries = table.shape[0], width = table.shape[1];
  if (entries < header.prompts || entries > SiteCounts::kMaxPrompts || width > kPromptIdBytes)
    return Error{fmt::format("{}: prompt_ids: {} of {} bytes, wanted {} to {} of at most {}",
                             file.path(), entries, width, header.prompts, SiteCounts::kMaxPrompts,
                             kPromptIdBytes)};
  for (uint32_t i = 0; i < entries; ++i) {
    const char *entry = reinterpret_cast<const char *>(table.data.data() + i * width);
    const std::string id(entry, ::strnlen(entry, width));
    auto wrong = [&](const std::string &what) {
      return Error{fmt::format("{}: prompt_ids: entry {}: {}", file.path(), i, what)};
    };
    if (i >= header.prompts) {
      if (!id.empty() && !interrupted)
        return wrong(
            fmt::format("is used, but the state says {}", counted(header.prompts, "prompt")));
      continue;
    }
    if (Status s = checkPromptId(id); !s)
      return wrong(s.message());
    if (!prompts.empty() && prompts.back() >= id)
      return wrong("is not after the one before it");
    prompts.push_back(id);
  }
  header.promptsHash = promptsHash(prompts);
  return {};
}

uint64_t CountsReader::siteIndex(uint32_t layer, uint32_t head, uint32_t step) const {
  return (uint64_t(layer) * impl->header.heads + head) * impl->header.stepCount() + step;
}

std::string CountsReader::siteName(uint64_t site) const {
  const uint64_t steps = impl->header.stepCount(), heads = impl->header.heads;
  return fmt::format("layer {}, head {}, step {}", site / steps / heads, site / steps % heads,
                     site % steps);
}

SiteScalars CountsReader::scalars(uint64_t site) const {
  auto view = [&](CountsTensor tensor) -> const TensorView & {
    return impl->tables[size_t(tensor)];
  };
  return {view(CountsTensor::Repetition).load<int64_t>(site),
          view(CountsTensor::Kept).load<uint64_t>(site),
          view(CountsTensor::RowMax).load<float>(site)};
}

std::span<const uint8_t> CountsReader::table(CountsTensor tensor) const {
  return impl->tables[size_t(tensor)].data;
}

Result<std::vector<uint8_t>> CountsReader::raw(CountsTensor tensor, uint64_t site) const {
  const uint64_t bytes = impl->layout.bytesPerSite[size_t(tensor)];
  return impl->file.read(impl->entries[size_t(tensor)], site * bytes, bytes);
}

Status CountsReader::checkHash(uint64_t site) const {
  StoredSite stored;
  return readSite(site, stored);
}

/// What is stored of a site, which has its hash.
Status CountsReader::readSite(uint64_t site, StoredSite &stored) const {
  for (auto [tensor, bytes] : {std::pair{CountsTensor::Best, &stored.best},
                               {CountsTensor::Energy, &stored.energy},
                               {CountsTensor::Count, &stored.count}}) {
    Result<std::vector<uint8_t>> read = raw(tensor, site);
    if (!read)
      return read.takeError();
    *bytes = read.take();
  }
  if (siteHash(scalars(site), stored.best, stored.energy, stored.count) ==
      impl->tables[size_t(CountsTensor::SiteHash)].load<uint64_t>(site))
    return {};
  return Error{fmt::format("{}: {}: is damaged: its hash is another", path(), siteName(site))};
}

Result<SiteCounts> CountsReader::site(uint64_t site) const {
  const ProfileHeader &h = impl->header;
  auto wrong = [&](const std::string &what) {
    return Error{fmt::format("{}: {}: {}", path(), siteName(site), what)};
  };
  StoredSite stored;
  if (Status s = readSite(site, stored); !s)
    return s.takeError();
  auto &[best, energy, count] = stored;
  const SiteScalars scalars = this->scalars(site);
  // A hash does not say that a program which wrote it was right.
  const double scores = std::abs(double(scalars.repetition)) * kRepetitionUnit;
  if (scores > double(h.prompts) || !std::isfinite(scalars.rowMax))
    return wrong(fmt::format("repetition sums to {} over {} and the row maximum is {}", scores,
                             counted(h.prompts, "prompt"), scalars.rowMax));

  SiteCounts result = SiteCounts::empty(h.tokens(), h.maxText);
  result.prompts = h.prompts;
  result.counts = std::move(count);
  uint64_t kept = 0;
  for (uint8_t c : result.counts) {
    if (c > h.prompts)
      return wrong(fmt::format("a block was kept by {} of {}", c, counted(h.prompts, "prompt")));
    kept += c;
  }
  if (kept != scalars.kept)
    return wrong(fmt::format("counts sum to {}, but kept is {}", kept, scalars.kept));
  const uint64_t most = uint64_t(h.prompts) * kEnergyOne;
  if (impl->layout.kind == CountsKind::Sums) {
    std::memcpy(result.energySums.data(), energy.data(), energy.size());
    for (uint32_t sum : result.energySums)
      if (sum > most)
        return wrong(
            fmt::format("a block's energies sum to {} units, wanted at most {}", sum, most));
    return result;
  }
  result.best.resize(result.blocks);
  std::memcpy(result.best.data(), best.data(), best.size());
  for (uint16_t column : result.best)
    if (column >= result.blocks)
      return wrong(
          fmt::format("the best block of a row is {}, wanted less than {}", column, result.blocks));
  uint32_t sums[256];
  for (uint32_t code = 0; code < 256; ++code)
    sums[code] = uint32_t(std::llround(energyOfCode(uint8_t(code)) * double(most)));
  for (size_t i = 0; i < energy.size(); ++i)
    result.energySums[i] = sums[energy[i]];
  return result;
}

} // namespace calibatt

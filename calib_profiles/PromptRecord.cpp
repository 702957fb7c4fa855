// A prompt's record is a safetensors file with two bytes a block.
#include "calib_profiles/PromptRecord.h"
#include "calib_profiles/EnergyUnits.h"
#include "runtime/format/Hash.h"
#include "runtime/format/Json.h"
#include "runtime/format/Quantity.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

namespace calibatt {

namespace {

enum RecordTensor : size_t { SiteHash, Repetition, Kept, RowMax, Blocks };

std::vector<PlacedTensor> recordTensors(const ProfileHeader &h) {
  const std::vector<uint64_t> sites = {h.layers, h.heads, h.stepCount()};
  std::vector<uint64_t> blocks = sites;
  blocks.insert(blocks.end(), {h.blocks(), h.blocks()});
  return {{"site_hash", DType::U64, sites},
          {"repetition", DType::I64, sites},
          {"kept", DType::U64, sites},
          {"row_max", DType::F32, sites},
          {"blocks", DType::U16, blocks}};
}

/// Says which counts a record belongs to.
std::string problemDigest(const CountsReader &counts) {
  Sha256 hash;
  hash.update(counts.document());
  Sha256Digest digest = hash.finish();
  return toHex(digest);
}

/// Of the document; the sites have hashes of their own.
std::string documentDigest(const std::string &id, const std::string &counts) {
  Sha256 hash;
  hash.update(counts + "\n" + id);
  Sha256Digest digest = hash.finish();
  return toHex(digest);
}

} // namespace

std::string recordPath(const std::string &path) { return path + ".prompt"; }

PromptWriter::PromptWriter(const CountsReader &counts, std::string id, FilePlan plan,
                           PlacedFile file)
    : counts(&counts), id(std::move(id)), plan(std::move(plan)), file(std::move(file)),
      hashes(counts.layout().sites), scalars(counts.layout().sites), added(counts.layout().sites) {}

Result<PromptWriter> PromptWriter::create(const CountsReader &counts, const std::string &promptId) {
  const std::string path = recordPath(counts.path());
  const std::string digest = problemDigest(counts);
  Result<std::string> document = writeJson({{"version", 2},
                                            {"prompt_id", promptId},
                                            {"counts", digest},
                                            {"digest", documentDigest(promptId, digest)}},
                                           path);
  if (!document)
    return document.takeError();
  Result<FilePlan> plan =
      FilePlan::create(kRecordKey, *document, recordTensors(counts.header()), path);
  if (!plan)
    return plan.takeError();
  Result<PlacedFile> file = PlacedFile::create(path, *plan);
  if (!file)
    return file.takeError();
  return PromptWriter(counts, promptId, plan.take(), file.take());
}

Status PromptWriter::add(uint64_t site, const SiteScalars &values,
                         std::span<const uint16_t> blocks) {
  const std::span<const uint8_t> bytes = bytesOf(blocks);
  if (Status s = file.writeAt(plan.offsets[Blocks] + site * bytes.size(), bytes); !s)
    return s;
  scalars[site] = values;
  hashes[site] = siteHash(values, {}, bytes, {});
  added[site] = 1;
  return {};
}

uint64_t PromptWriter::sitesAdded() const {
  return uint64_t(std::count(added.begin(), added.end(), 1));
}

Status PromptWriter::checkComplete() const {
  const uint64_t sites = added.size();
  if (sitesAdded() != sites) {
    const uint64_t missing = uint64_t(std::find(added.begin(), added.end(), 0) - added.begin());
    return Error{fmt::format("{}: prompt \"{}\": {} of {} were added; {} is missing",
                             counts->path(), id, sitesAdded(), counted(sites, "site"),
                             counts->siteName(missing))};
  }
  return {};
}

Status PromptWriter::commit() {
  if (Status s = checkComplete(); !s)
    return s;
  const ScalarColumns columns(scalars);
  for (const auto &[tensor, bytes] : {std::pair{SiteHash, bytesOf(hashes)},
                                      {Repetition, bytesOf(columns.repetition)},
                                      {Kept, bytesOf(columns.kept)},
                                      {RowMax, bytesOf(columns.rowMax)}})
    if (Status s = file.writeAt(plan.offsets[tensor], bytes); !s)
      return s;
  return file.commit();
}

Result<PromptReader> PromptReader::open(const std::string &path, const CountsReader &counts) {
  Result<SafetensorsReader> file = SafetensorsReader::open(path);
  if (!file)
    return file.takeError();
  const std::string *document = file->metadata(kRecordKey);
  if (!document)
    return Error{fmt::format("{}: __metadata__ has no \"{}\", so this is no prompt's record", path,
                             kRecordKey)};
  Result<Json> json = parseJson(*document, path);
  if (!json)
    return json.takeError();
  JsonFields fields(*json, path);
  fields.integer("version", 2, 2);
  const std::string id = fields.string("prompt_id"), digest = fields.string("counts");
  const std::string own = fields.string("digest");
  if (Status s = fields.status(); !s)
    return s.takeError();
  if (own != documentDigest(id, digest))
    return Error{fmt::format("{}: its prompt_id is damaged: the digest is another", path)};
  if (digest != problemDigest(counts))
    return Error{fmt::format("{}: is of other counts than {}", path, counts.path())};
  if (Status s = checkPromptId(id); !s)
    return Error{fmt::format("{}: {}", path, s.message())};
  PromptReader reader(file.take(), counts);
  reader.id = id;
  for (const PlacedTensor &wanted : recordTensors(counts.header())) {
    Result<TensorEntry> entry = reader.file.entry(wanted.name, wanted.dtype, wanted.shape);
    if (!entry)
      return entry.takeError();
    if (reader.tables.size() == Blocks) {
      reader.blocksEntry = entry.take();
      continue;
    }
    Result<TensorView> table = reader.file.load(*entry);
    if (!table)
      return table.takeError();
    reader.tables.push_back(table.take());
  }
  return reader;
}

SiteScalars PromptReader::scalars(uint64_t site) const {
  return {tables[Repetition].load<int64_t>(site), tables[Kept].load<uint64_t>(site),
          tables[RowMax].load<float>(site)};
}

Status PromptReader::blocks(uint64_t site, std::vector<uint16_t> &values) const {
  auto damaged = [&](const std::string &what) {
    return Error{
        fmt::format("{}: prompt \"{}\", {}: {}", file.path(), id, counts->siteName(site), what)};
  };
  const uint64_t perSite = uint64_t(counts->layout().blocks) * counts->layout().blocks;
  values.resize(perSite);
  const std::span<uint8_t> bytes(reinterpret_cast<uint8_t *>(values.data()), perSite * 2);
  if (Status s = file.read(blocksEntry, site * perSite * 2, bytes); !s)
    return s;
  const SiteScalars found = scalars(site);
  if (siteHash(found, {}, bytes, {}) != tables[SiteHash].load<uint64_t>(site))
    return damaged("is damaged: its hash is another");
  uint64_t kept = 0;
  uint16_t largest = 0;
  for (uint16_t v : values) {
    kept += v >> 15;
    largest = std::max(largest, uint16_t(v & ~kKeptBit));
  }
  if (kept != found.kept || largest > kMaxPackedUnits || !std::isfinite(found.rowMax) ||
      std::abs(double(found.repetition)) * kRepetitionUnit > 1)
    return damaged("has values that no prompt has");
  return {};
}

} // namespace calibatt

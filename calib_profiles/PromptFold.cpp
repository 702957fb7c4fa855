// The fold: old counts and a record in, new bytes of every tensor out, piece by
// piece through the redo log.
#include "calib_profiles/PromptFold.h"
#include "calib_profiles/EnergyUnits.h"
#include "calib_profiles/ParallelFor.h"
#include "calib_profiles/PromptRecord.h"
#include "calib_profiles/RedoLog.h"
#include "runtime/format/Hash.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <unistd.h>

namespace calibatt {

namespace {

bool exists(const std::string &path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored);
}

class OpenFile {
public:
  explicit OpenFile(const std::string &path) : fd(::open(path.c_str(), O_RDWR | O_CLOEXEC)) {}
  ~OpenFile() {
    if (fd >= 0)
      ::close(fd);
  }
  OpenFile(const OpenFile &) = delete;
  const int fd;
};

/// Which change of the counts a record is: from the hashes of all its sites.
Result<uint64_t> changeOf(const std::string &record) {
  Result<SafetensorsReader> file = SafetensorsReader::open(record);
  if (!file)
    return file.takeError();
  Result<TensorView> hashes = file->tensor("site_hash");
  if (!hashes)
    return hashes.takeError();
  const Xxh128Digest digest = xxh128(hashes->data);
  uint64_t change = 0;
  std::memcpy(&change, digest.data(), sizeof change);
  return change;
}

/// New bytes of the sites [first, end): one extent a tensor.
class Piece {
public:
  Piece(const CountsReader &counts, const PromptReader &record, uint64_t first, uint64_t end)
      : counts(counts), record(record), first(first), end(end) {}

  Result<std::vector<Extent>> make() {
    extents = {begin(CountsTensor::SiteHash), begin(CountsTensor::Repetition),
               begin(CountsTensor::Kept),     begin(CountsTensor::RowMax),
               begin(CountsTensor::Energy),   begin(CountsTensor::Count)};
    if (Status s = parallelFor(end - first, 0, [&](uint64_t i) { return add(first + i); }); !s)
      return s.takeError();
    return std::move(extents);
  }

private:
  Extent begin(CountsTensor tensor) const {
    const CountsLayout &layout = counts.layout();
    return {layout.at(tensor, first),
            std::vector<uint8_t>((end - first) * layout.bytesPerSite[size_t(tensor)])};
  }

  template <typename T> void store(size_t extent, uint64_t site, T value) {
    std::memcpy(extents[extent].bytes.data() + (site - first) * sizeof value, &value, sizeof value);
  }

  Status add(uint64_t site) {
    Result<SiteCounts> old = counts.site(site); // checks its hash
    if (!old)
      return old.takeError();
    std::vector<uint16_t> blocks;
    if (Status s = record.blocks(site, blocks); !s)
      return s;
    for (size_t i = 0; i < blocks.size(); ++i) {
      old->counts[i] = uint8_t(old->counts[i] + (blocks[i] >> 15));
      old->energySums[i] += unpackUnits(uint16_t(blocks[i] & ~kKeptBit));
    }
    SiteScalars scalars = counts.scalars(site);
    const SiteScalars more = record.scalars(site);
    scalars.repetition += more.repetition;
    scalars.kept += more.kept;
    scalars.rowMax = counts.header().prompts ? std::max(scalars.rowMax, more.rowMax) : more.rowMax;
    store(1, site, scalars.repetition);
    store(2, site, scalars.kept);
    store(3, site, scalars.rowMax);
    const uint64_t at = (site - first) * blocks.size();
    std::memcpy(extents[4].bytes.data() + at * 4, old->energySums.data(), blocks.size() * 4);
    std::memcpy(extents[5].bytes.data() + at, old->counts.data(), blocks.size());
    store(0, site,
          siteHash(scalars, {},
                   std::span<const uint8_t>(extents[4].bytes).subspan(at * 4, blocks.size() * 4),
                   std::span<const uint8_t>(extents[5].bytes).subspan(at, blocks.size())));
    return {};
  }

  const CountsReader &counts;
  const PromptReader &record;
  uint64_t first, end;
  std::vector<Extent> extents;
};

/// The state, the prompts where they are others, and the digest that fits them.
std::vector<Extent> stateExtents(const CountsReader &counts, uint64_t folded, uint64_t folding,
                                 const std::vector<std::string> *ids = nullptr) {
  const CountsLayout &layout = counts.layout();
  const uint64_t state[2] = {folded, folding};
  std::vector<Extent> extents = {
      {layout.at(CountsTensor::State, 0), std::vector<uint8_t>(sizeof state)}};
  std::memcpy(extents[0].bytes.data(), state, sizeof state);
  if (ids)
    extents.push_back({layout.at(CountsTensor::PromptIds, 0), packPromptIds(*ids)});
  const Sha256Digest digest =
      countsDigest(counts.document(), extents[0].bytes,
                   ids ? std::span<const uint8_t>(extents[1].bytes) : counts.promptIds());
  extents.push_back({layout.at(CountsTensor::Digest, 0), {digest.begin(), digest.end()}});
  return extents;
}

/// Folds in sites from `first` on. Entries of the log are numbered by the sites
/// that are done with them, so that pieces may have another size after a restart; the mark that a
/// prompt is being folded in is entry 0.
Status fold(const CountsReader &counts, const PromptReader &record, int fd, RedoLog &log,
            uint64_t first, uint64_t pieceBytes) {
  const CountsLayout &layout = counts.layout();
  const uint64_t number = counts.header().prompts + 1;
  if (!counts.interrupted())
    if (Status s = log.apply(fd, 0, stateExtents(counts, number - 1, number)); !s)
      return s;
  uint64_t perSite = 0;
  for (uint64_t bytes : layout.bytesPerSite)
    perSite += bytes;
  const uint64_t sites = std::max<uint64_t>(1, pieceBytes / perSite);
  while (first < layout.sites) {
    const uint64_t end = std::min(layout.sites, first + sites);
    Result<std::vector<Extent>> extents = Piece(counts, record, first, end).make();
    if (!extents)
      return extents.takeError();
    if (Status s = log.apply(fd, end, *extents); !s)
      return s;
    first = end;
  }
  std::vector<std::string> ids = counts.prompts();
  ids.insert(std::upper_bound(ids.begin(), ids.end(), record.promptId()), record.promptId());
  return log.apply(fd, layout.sites + 1, stateExtents(counts, number, 0, &ids));
}

/// Removes what a finished fold leaves; the record last, because it says what the log is of.
void cleanUp(const std::string &path) {
  RedoLog::remove(path);
  ::unlink(recordPath(path).c_str());
  syncFolder(folderOf(path));
}

} // namespace

bool hasWaitingPrompt(const std::string &path) { return exists(recordPath(path)); }

Result<bool> foldWaitingPrompt(const std::string &path, uint64_t pieceBytes) {
  if (!hasWaitingPrompt(path)) {
    RedoLog::remove(path);
    return false;
  }
  const std::string waiting = recordPath(path);
  Result<uint64_t> change = changeOf(waiting);
  if (!change)
    return change.takeError();
  OpenFile file(path);
  if (file.fd < 0)
    return systemFailure(path, "cannot open it for writing");
  RedoLog log(path, *change);
  // Before anything of the counts is believed.
  std::error_code ignored;
  Result<std::optional<uint64_t>> replayed =
      log.replay(file.fd, std::filesystem::file_size(path, ignored));
  if (!replayed)
    return replayed.takeError();
  Result<CountsReader> counts = CountsReader::open(path);
  if (!counts)
    return counts.takeError();
  Result<PromptReader> record = PromptReader::open(waiting, *counts);
  if (!record)
    return record.takeError();
  if (counts->kind() != CountsKind::Sums)
    return Error{fmt::format("{}: has mean energies only, to which no prompt can be added", path)};
  if (!counts->hasDigest())
    return Error{fmt::format("{}: has version 1.x, to which no prompt can be added", path)};
  // Sites that have the prompt already would get it once more.
  if (counts->interrupted() && !*replayed)
    return Error{fmt::format("{}: prompt {} is half folded in, and its redo log is missing or "
                             "damaged",
                             path, *counts->interrupted())};
  const std::vector<std::string> &ids = counts->prompts();
  if (counts->table(CountsTensor::PromptIds).size() !=
      uint64_t(SiteCounts::kMaxPrompts) * kPromptIdBytes)
    return Error{fmt::format("{}: prompt_ids: has no room for 255 prompts of {} bytes", path,
                             kPromptIdBytes)};
  if (!std::binary_search(ids.begin(), ids.end(), record->promptId())) {
    if (ids.size() == SiteCounts::kMaxPrompts)
      return Error{fmt::format("{}: has {} prompts, and counts are 8 bits", path, ids.size())};
    if (Status s = fold(*counts, *record, file.fd, log, replayed->value_or(0), pieceBytes); !s)
      return s.takeError();
  }
  cleanUp(path);
  return true;
}

} // namespace calibatt

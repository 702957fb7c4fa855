// Entries are a fixed header, the extents' bytes, and a hash over both.
#include "calib_profiles/RedoLog.h"
#include "calib_profiles/PlacedFile.h"
#include "runtime/format/Hash.h"
#include "runtime/format/InputFile.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <unistd.h>

namespace calibatt {

namespace {

struct EntryHeader {
  char magic[8];
  uint64_t change, number, extents;
  uint64_t offset[RedoLog::kMaxExtents], size[RedoLog::kMaxExtents];
  uint8_t payloadHash[16];
  uint8_t headerHash[16]; ///< of everything before it
};
constexpr char kMagic[8] = {'C', 'A', 'L', 'I', 'R', 'E', 'D', 'O'};

Xxh128Digest hashOf(const EntryHeader &header) {
  return xxh128({reinterpret_cast<const uint8_t *>(&header), offsetof(EntryHeader, headerHash)});
}

/// One hash over hashes, so that extents need not be copied together.
Xxh128Digest hashOfPayload(const std::vector<std::span<const uint8_t>> &extents) {
  std::vector<uint8_t> digests;
  for (std::span<const uint8_t> extent : extents) {
    const Xxh128Digest digest = xxh128(extent);
    digests.insert(digests.end(), digest.begin(), digest.end());
  }
  return xxh128(digests);
}

struct Entry {
  EntryHeader header;
  std::vector<uint8_t> payload;
  std::vector<std::span<const uint8_t>> extents; // into it
};

/// The entry of a slot, or nothing where it is torn, of another change, or larger than the file
/// that it is for. Fails where it cannot be read.
Result<std::optional<Entry>> readEntry(const InputFile &file, uint64_t change, uint64_t fileSize) {
  const std::optional<Entry> none;
  Entry entry;
  EntryHeader &h = entry.header;
  if (file.size() < sizeof h)
    return none;
  if (Status s = file.read(0, {reinterpret_cast<uint8_t *>(&h), sizeof h}); !s)
    return s.takeError();
  if (std::memcmp(h.magic, kMagic, sizeof kMagic) != 0 || h.change != change ||
      h.extents > RedoLog::kMaxExtents ||
      std::memcmp(h.headerHash, hashOf(h).data(), sizeof h.headerHash) != 0)
    return none;
  uint64_t left = std::min(file.size() - sizeof h, fileSize), bytes = 0;
  for (uint64_t i = 0; i < h.extents; ++i) {
    if (h.size[i] > left - bytes)
      return none;
    bytes += h.size[i];
  }
  Result<std::vector<uint8_t>> payload = file.read(sizeof h, bytes);
  if (!payload)
    return payload.takeError();
  entry.payload = payload.take();
  std::span<const uint8_t> rest = entry.payload;
  for (uint64_t i = 0; i < h.extents; ++i) {
    entry.extents.push_back(rest.first(h.size[i]));
    rest = rest.subspan(h.size[i]);
  }
  if (std::memcmp(h.payloadHash, hashOfPayload(entry.extents).data(), sizeof h.payloadHash) != 0)
    return none;
  return std::optional<Entry>(std::move(entry));
}

} // namespace

std::string RedoLog::slotPath(const std::string &path, uint64_t slot) {
  return fmt::format("{}.redo{}", path, slot);
}

Status RedoLog::apply(int fd, uint64_t number, const std::vector<Extent> &extents) {
  assert(extents.size() <= kMaxExtents);
  EntryHeader header = {};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  header.change = change;
  header.number = number;
  header.extents = extents.size();
  std::vector<std::span<const uint8_t>> payload;
  for (size_t i = 0; i < extents.size(); ++i) {
    header.offset[i] = extents[i].offset;
    header.size[i] = extents[i].bytes.size();
    payload.push_back(extents[i].bytes);
  }
  std::memcpy(header.payloadHash, hashOfPayload(payload).data(), sizeof header.payloadHash);
  std::memcpy(header.headerHash, hashOf(header).data(), sizeof header.headerHash);

  const std::string name = slotPath(path, slot);
  slot = 1 - slot;
  const int log = ::open(name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (log < 0)
    return systemFailure(name, "cannot write");
  uint64_t at = sizeof header;
  bool good = writeAllAt(log, 0, {reinterpret_cast<const uint8_t *>(&header), sizeof header});
  for (size_t i = 0; good && i < payload.size(); ++i) {
    good = writeAllAt(log, at, payload[i]);
    at += payload[i].size();
  }
  good = good && ::fdatasync(log) == 0;
  Status failure = good ? Status() : Status(systemFailure(name, "cannot write"));
  ::close(log);
  if (!failure)
    return failure;
  syncFolder(folderOf(name)); // the file may be new
  for (const Extent &extent : extents)
    if (!writeAllAt(fd, extent.offset, extent.bytes))
      return systemFailure(path, "cannot write");
  if (::fdatasync(fd) != 0)
    return systemFailure(path, "cannot sync to disk");
  return {};
}

Result<std::optional<uint64_t>> RedoLog::replay(int fd, uint64_t fileSize) {
  std::optional<Entry> last;
  for (uint64_t i : {0, 1}) {
    std::error_code ignored;
    if (!std::filesystem::exists(slotPath(path, i), ignored))
      continue;
    Result<InputFile> file = InputFile::open(slotPath(path, i));
    if (!file)
      return file.takeError();
    Result<std::optional<Entry>> entry = readEntry(*file, change, fileSize);
    if (!entry)
      return entry.takeError();
    std::optional<Entry> &found = *entry;
    if (found && (!last || found->header.number > last->header.number)) {
      last = std::move(found);
      slot = 1 - i;
    }
  }
  if (!last)
    return std::optional<uint64_t>();
  for (size_t i = 0; i < last->extents.size(); ++i) {
    const uint64_t offset = last->header.offset[i];
    if (offset > fileSize || last->extents[i].size() > fileSize - offset)
      return Error{fmt::format("{}: its redo log writes beyond its end", path)};
  }
  for (size_t i = 0; i < last->extents.size(); ++i)
    if (!writeAllAt(fd, last->header.offset[i], last->extents[i]))
      return systemFailure(path, "cannot write");
  if (::fdatasync(fd) != 0)
    return systemFailure(path, "cannot sync to disk");
  return std::optional<uint64_t>(last->header.number);
}

void RedoLog::remove(const std::string &path) {
  for (uint64_t i : {0, 1})
    ::unlink(slotPath(path, i).c_str());
}

} // namespace calibatt

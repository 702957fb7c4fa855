// Writes with every count checked, into a temporary that is synced and renamed.
#include "runtime/format/AtomicFile.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <unistd.h>
#include <utility>
#include <vector>

namespace calibatt {
namespace {

/// False with errno set where not all bytes could be written.
bool writeAll(int fd, std::span<const uint8_t> bytes) {
  while (!bytes.empty()) {
    ssize_t count = ::write(fd, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR)
      continue;
    if (count < 0)
      return false;
    bytes = bytes.subspan(size_t(count));
  }
  return true;
}

} // namespace

Result<AtomicFile> AtomicFile::create(const std::string &path) {
  Result<TemporaryFile> file = TemporaryFile::create(path);
  if (!file)
    return file.takeError();
  return AtomicFile(file.take());
}

Status AtomicFile::write(std::span<const uint8_t> bytes) {
  if (!writeAll(file.descriptor(), bytes))
    return file.failure("cannot write");
  written += bytes.size();
  return {};
}

Status AtomicFile::write(const std::string &text) {
  return write(std::span(reinterpret_cast<const uint8_t *>(text.data()), text.size()));
}

Status AtomicFile::prepare() {
  Status synced = file.sync();
  return synced ? file.giveName() : std::move(synced);
}

Status AtomicFile::commit(Sync sync) {
  if (sync == Sync::Yes)
    if (Status status = file.sync(); !status)
      return status;
  if (Status status = file.replace(); !status)
    return status;
  // The rename itself reaches the disk with its folder; a folder that cannot be
  // opened or synced leaves a file that is whole all the same.
  if (sync == Sync::Yes)
    syncFolder(folderOf(file.path()));
  return {};
}

Status writeTogether(const std::vector<NamedBytes> &files) {
  std::vector<AtomicFile> written;
  for (const NamedBytes &wanted : files) {
    Result<AtomicFile> file = AtomicFile::create(wanted.path);
    if (!file)
      return file.takeError();
    written.push_back(file.take());
    if (Status status = written.back().write(wanted.bytes); !status)
      return status;
    if (Status status = written.back().prepare(); !status)
      return status;
  }
  for (AtomicFile &file : written)
    if (Status status = file.commit(AtomicFile::Sync::No); !status)
      return status;
  for (const NamedBytes &file : files)
    syncFolder(folderOf(file.path));
  return {};
}

Result<SpoolFile> SpoolFile::create(const std::string &beside) {
  Result<TemporaryFile> file = TemporaryFile::create(beside);
  if (!file)
    return file.takeError();
  SpoolFile spool;
  spool.file = file.take();
  spool.file.removeName();
  return spool;
}

Status SpoolFile::write(std::span<const uint8_t> bytes) {
  if (!writeAll(file.descriptor(), bytes))
    return file.failure("cannot write a temporary beside it");
  written += bytes.size();
  return {};
}

Status SpoolFile::copyTo(AtomicFile &out) {
  std::vector<uint8_t> buffer(1 << 20);
  for (uint64_t done = 0; done < written;) {
    size_t want = size_t(std::min<uint64_t>(buffer.size(), written - done));
    ssize_t count = ::pread(file.descriptor(), buffer.data(), want, off_t(done));
    if (count < 0 && errno == EINTR)
      continue;
    if (count <= 0)
      return file.failure("cannot read back a temporary beside it");
    if (Status status = out.write(std::span(buffer.data(), size_t(count))); !status)
      return status;
    done += uint64_t(count);
  }
  return {};
}

} // namespace calibatt

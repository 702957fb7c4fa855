// Temporary + fsync + rename, with every write checked.
#include "runtime/format/AtomicFile.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>
#include <vector>

namespace calibatt {
namespace {

std::string folderOf(const std::string &path) {
  size_t slash = path.rfind('/');
  if (slash == std::string::npos)
    return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

/// Calls `make` with names beside `path` until one is not taken; its result, which is negative
/// with errno set where it failed.
template <typename Make> int withNewName(const std::string &path, std::string &name, Make make) {
  static std::atomic<unsigned> counter{0};
  int result = -1;
  for (int attempt = 0; attempt < 100; ++attempt) {
    name = fmt::format("{}.tmp-{}-{}", path, ::getpid(), counter++);
    result = make(name.c_str());
    if (result >= 0 || errno != EEXIST)
      break;
  }
  return result;
}

/// Where linkat() finds an open file to give it a name; needs no privilege, but /proc.
std::string openFileName(int fd) { return fmt::format("/proc/self/fd/{}", fd); }

/// A new file in the folder of `path`, readable as the umask says (mkstemp would give 0600). It
/// has no name where the file system and /proc allow that: `name` is then empty.
int createBeside(const std::string &path, std::string &name) {
  name.clear();
  int fd = ::open(folderOf(path).c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0666);
  if (fd >= 0 && ::access(openFileName(fd).c_str(), F_OK) == 0)
    return fd;
  if (fd >= 0)
    ::close(fd);
  fd = withNewName(path, name, [](const char *name) {
    return ::open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  });
  if (fd < 0)
    name.clear();
  return fd;
}

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

Error systemError(const std::string &path, const char *what) {
  return Error{fmt::format("{}: {}: {}", path, what, std::strerror(errno))};
}

} // namespace

Result<AtomicFile> AtomicFile::create(const std::string &path) {
  struct stat info{};
  if (::stat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode))
    return Error{fmt::format("{}: is {}, not a regular file that can be replaced", path,
                             S_ISDIR(info.st_mode) ? "a directory" : "a device, pipe or socket")};
  AtomicFile file;
  file.finalPath = path;
  file.fd = createBeside(path, file.temporary);
  if (file.fd < 0)
    return systemError(path, "cannot write");
  return file;
}

AtomicFile::AtomicFile(AtomicFile &&other) noexcept { *this = std::move(other); }

AtomicFile &AtomicFile::operator=(AtomicFile &&other) noexcept {
  if (this != &other) {
    discard();
    finalPath = std::move(other.finalPath);
    temporary = std::exchange(other.temporary, {});
    fd = std::exchange(other.fd, -1);
    written = other.written;
  }
  return *this;
}

AtomicFile::~AtomicFile() { discard(); }

void AtomicFile::discard() {
  if (fd >= 0)
    ::close(fd);
  fd = -1;
  if (!temporary.empty())
    ::unlink(temporary.c_str());
  temporary.clear();
}

Error AtomicFile::failure(const char *what) const { return systemError(finalPath, what); }

Status AtomicFile::write(std::span<const uint8_t> bytes) {
  if (!writeAll(fd, bytes))
    return failure("cannot write");
  written += bytes.size();
  return {};
}

Status AtomicFile::write(const std::string &text) {
  return write(std::span(reinterpret_cast<const uint8_t *>(text.data()), text.size()));
}

/// Rename replaces what has the name already, linking does not: so a name comes first.
Status AtomicFile::giveName() {
  if (!temporary.empty())
    return {};
  const std::string self = openFileName(fd);
  if (withNewName(finalPath, temporary, [&](const char *name) {
        return ::linkat(AT_FDCWD, self.c_str(), AT_FDCWD, name, AT_SYMLINK_FOLLOW);
      }) != 0) {
    temporary.clear();
    return failure("cannot name the finished temporary");
  }
  return {};
}

Status AtomicFile::commit(Sync sync) {
  if (sync == Sync::Yes && ::fsync(fd) != 0)
    return failure("cannot sync to disk");
  if (Status status = giveName(); !status)
    return status;
  // Some file systems (NFS, quotas) report a full disk only here.
  if (::close(std::exchange(fd, -1)) != 0)
    return failure("cannot close");
  if (::rename(temporary.c_str(), finalPath.c_str()) != 0)
    return failure("cannot rename the finished temporary to it");
  temporary.clear();
  if (sync == Sync::No)
    return {};
  // The rename itself reaches the disk with its folder; a folder that cannot be
  // opened or synced leaves a file that is whole all the same.
  int folder = ::open(folderOf(finalPath).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder >= 0) {
    ::fsync(folder);
    ::close(folder);
  }
  return {};
}

Result<SpoolFile> SpoolFile::create(const std::string &beside) {
  SpoolFile file;
  file.besidePath = beside;
  std::string name;
  file.fd = createBeside(beside, name);
  if (file.fd < 0)
    return systemError(beside, "cannot write a temporary beside it");
  if (!name.empty())
    ::unlink(name.c_str());
  return file;
}

SpoolFile::SpoolFile(SpoolFile &&other) noexcept { *this = std::move(other); }

SpoolFile &SpoolFile::operator=(SpoolFile &&other) noexcept {
  if (this != &other) {
    if (fd >= 0)
      ::close(fd);
    besidePath = std::move(other.besidePath);
    fd = std::exchange(other.fd, -1);
    written = other.written;
  }
  return *this;
}

SpoolFile::~SpoolFile() {
  if (fd >= 0)
    ::close(fd);
}

Status SpoolFile::write(std::span<const uint8_t> bytes) {
  if (!writeAll(fd, bytes))
    return systemError(besidePath, "cannot write a temporary beside it");
  written += bytes.size();
  return {};
}

Status SpoolFile::copyTo(AtomicFile &out) {
  std::vector<uint8_t> buffer(1 << 20);
  for (uint64_t done = 0; done < written;) {
    size_t want = size_t(std::min<uint64_t>(buffer.size(), written - done));
    ssize_t count = ::pread(fd, buffer.data(), want, off_t(done));
    if (count < 0 && errno == EINTR)
      continue;
    if (count <= 0)
      return systemError(besidePath, "cannot read back a temporary beside it");
    if (Status status = out.write(std::span(buffer.data(), size_t(count))); !status)
      return status;
    done += uint64_t(count);
  }
  return {};
}

} // namespace calibatt

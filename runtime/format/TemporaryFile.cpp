// O_TMPFILE and linkat where they are, else a locked name; leftovers of the dead are removed.
#include "runtime/format/TemporaryFile.h"
#include "runtime/format/Hash.h"

#include <fmt/format.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <dirent.h>
#include <fcntl.h>
#include <map>
#include <mutex>
#include <string_view>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>
#include <vector>

namespace calibatt {
namespace {

constexpr std::string_view kMark = ".tmp-calibatt-";
/// A lock may hold on one machine only (some network file systems): others get so much time.
constexpr int64_t kForeignSeconds = 3600;

/// Of this machine or container: short, and without a '-'.
const std::string &hostMark() {
  static const std::string mark = [] {
    std::array<char, 256> name{};
    (void)::gethostname(name.data(), name.size() - 1);
    const size_t length = std::strlen(name.data());
    return toHex(xxh128({reinterpret_cast<const uint8_t *>(name.data()), length})).substr(0, 8);
  }();
  return mark;
}

/// Where linkat() finds an open file to give it a name; needs no privilege, but /proc.
std::string openFileName(int fd) { return fmt::format("/proc/self/fd/{}", fd); }

/// False where another has the file; without an answer nobody is known to have it.
enum class Locked { Yes, No, Unknown };
Locked tryLock(int fd) {
  while (::flock(fd, LOCK_EX | LOCK_NB) != 0)
    if (errno != EINTR)
      return errno == EWOULDBLOCK ? Locked::No : Locked::Unknown;
  return Locked::Yes;
}

/// Whether `name` is still the file that is open.
bool isStill(const std::string &name, int fd) {
  struct stat open{}, named{};
  return ::fstat(fd, &open) == 0 && ::lstat(name.c_str(), &named) == 0 &&
         open.st_dev == named.st_dev && open.st_ino == named.st_ino;
}

/// Calls `make` with names beside `path` until one is not taken; its result, which is negative
/// with errno set where it failed.
template <typename Make> int withNewName(const std::string &path, std::string &name, Make make) {
  static std::atomic<unsigned> counter{0};
  int result = -1;
  for (int attempt = 0; attempt < 100; ++attempt) {
    name = fmt::format("{}{}{}-{}-{}", path, kMark, hostMark(), ::getpid(), counter++);
    result = make(name.c_str());
    if (result >= 0 || errno != EEXIST)
      break;
  }
  return result;
}

/// A new file with a name, locked before anybody could take it for a leftover.
int createNamed(const std::string &path, std::string &name) {
  for (int attempt = 0; attempt < 10; ++attempt) {
    int fd = withNewName(path, name, [](const char *name) { // readable as the umask says
      return ::open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    });
    if (fd < 0)
      break;
    // Somebody may have removed it between the two.
    if (tryLock(fd) != Locked::No && isStill(name, fd))
      return fd;
    ::close(fd);
    errno = EAGAIN;
  }
  name.clear();
  return -1;
}

/// The same without a name, where that can be had.
int createUnnamed(const std::string &path) {
  int fd = ::open(folderOf(path).c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0666);
  if (fd >= 0 && ::access(openFileName(fd).c_str(), F_OK) != 0) {
    ::close(fd);
    fd = -1;
  }
  if (fd >= 0)
    (void)tryLock(fd); // for when it has a name
  return fd;
}

void removeIfDead(const std::string &name, bool ours) {
  int fd = ::open(name.c_str(), O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0)
    return;
  struct stat info{};
  if (::fstat(fd, &info) == 0 && S_ISREG(info.st_mode) &&
      (ours || ::time(nullptr) - info.st_mtim.tv_sec > kForeignSeconds) &&
      tryLock(fd) == Locked::Yes && isStill(name, fd))
    ::unlink(name.c_str());
  ::close(fd);
}

bool isNumber(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos;
}

/// The host's mark of "BASE.tmp-calibatt-HOST-PID-N", and where BASE ends; nothing for other names.
struct LeftoverName {
  std::string_view base, host;
};
bool parseLeftover(std::string_view name, LeftoverName &parsed) {
  const size_t mark = name.rfind(kMark);
  if (mark == std::string_view::npos || mark == 0)
    return false;
  const std::string_view rest = name.substr(mark + kMark.size());
  const size_t first = rest.find('-');
  const size_t second = first == std::string_view::npos ? first : rest.find('-', first + 1);
  if (second == std::string_view::npos || !isNumber(rest.substr(second + 1)) ||
      !isNumber(rest.substr(first + 1, second - first - 1)))
    return false;
  parsed = {name.substr(0, mark), rest.substr(0, first)};
  return true;
}

/// Names in a folder that look like leftovers. Looked for once a folder: a program that writes many
/// files into one would read it as often.
std::vector<std::string> leftoversIn(const std::string &folder) {
  static std::mutex mutex;
  static std::map<std::string, std::vector<std::string>> known;
  std::lock_guard lock(mutex);
  auto [place, isNew] = known.try_emplace(folder);
  if (!isNew)
    return place->second;
  DIR *open = ::opendir(folder.c_str());
  if (!open)
    return {};
  LeftoverName parsed;
  while (const dirent *entry = ::readdir(open))
    if (parseLeftover(entry->d_name, parsed))
      place->second.emplace_back(entry->d_name);
  ::closedir(open);
  return place->second;
}

void removeLeftovers(const std::string &path) {
  const std::string folder = folderOf(path);
  const size_t slash = path.rfind('/');
  const std::string base = slash == std::string::npos ? path : path.substr(slash + 1);
  LeftoverName parsed;
  for (const std::string &name : leftoversIn(folder))
    if (parseLeftover(name, parsed) && parsed.base == base)
      removeIfDead(folder + "/" + name, parsed.host == hostMark());
}

} // namespace

std::string folderOf(const std::string &path) {
  size_t slash = path.rfind('/');
  if (slash == std::string::npos)
    return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

void syncFolder(const std::string &folder) {
  int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0)
    return;
  ::fsync(fd);
  ::close(fd);
}

Error TemporaryFile::failure(const char *what) const {
  return Error{fmt::format("{}: {}: {}", finalPath, what, std::strerror(errno))};
}

Result<TemporaryFile> TemporaryFile::create(const std::string &path) {
  struct stat info{};
  if (::stat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode))
    return Error{fmt::format("{}: is {}, not a regular file that can be replaced", path,
                             S_ISDIR(info.st_mode) ? "a directory" : "a device, pipe or socket")};
  removeLeftovers(path);
  TemporaryFile file;
  file.finalPath = path;
  file.fd = createUnnamed(path);
  if (file.fd < 0)
    file.fd = createNamed(path, file.temporary);
  if (file.fd < 0)
    return file.failure("cannot write");
  return file;
}

TemporaryFile::TemporaryFile(TemporaryFile &&other) noexcept { *this = std::move(other); }

TemporaryFile &TemporaryFile::operator=(TemporaryFile &&other) noexcept {
  if (this != &other) {
    discard();
    finalPath = std::move(other.finalPath);
    temporary = std::exchange(other.temporary, {});
    fd = std::exchange(other.fd, -1);
  }
  return *this;
}

TemporaryFile::~TemporaryFile() { discard(); }

void TemporaryFile::discard() {
  // The name first: without the lock it would be anybody's.
  removeName();
  if (fd >= 0)
    ::close(fd);
  fd = -1;
}

void TemporaryFile::removeName() {
  if (!temporary.empty())
    ::unlink(temporary.c_str());
  temporary.clear();
}

Status TemporaryFile::sync() {
  if (::fsync(fd) != 0)
    return failure("cannot sync to disk");
  return {};
}

Status TemporaryFile::giveName() {
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

Status TemporaryFile::replace() {
  // Some file systems (NFS, quotas) report a full disk only when a descriptor is closed. The other
  // one keeps the lock until the file has its name.
  const int copy = ::dup(fd);
  if (copy >= 0 && ::close(copy) != 0)
    return failure("cannot close");
  // Rename replaces what has the name already, linking does not: so a name comes first.
  if (Status status = giveName(); !status)
    return status;
  if (::rename(temporary.c_str(), finalPath.c_str()) != 0)
    return failure("cannot rename the finished temporary to it");
  temporary.clear();
  discard();
  return {};
}

} // namespace calibatt

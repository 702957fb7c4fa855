// flock() on a file beside the counts.
#include "calib_profiles/CountsLock.h"
#include "calib_profiles/PlacedFile.h"

#include <fmt/format.h>

#include <cerrno>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace calibatt {

namespace {

std::string hostName() {
  char name[256] = {};
  return ::gethostname(name, sizeof name - 1) == 0 ? name : "this host";
}

/// What the holder wrote into its lock; printable, or nothing.
std::string holderOf(int fd) {
  char text[300] = {};
  const ssize_t count = ::pread(fd, text, sizeof text - 1, 0);
  for (ssize_t i = 0; i < count; ++i)
    if (text[i] < 32 || text[i] > 126)
      return {};
  return text;
}

} // namespace

Result<CountsLock> CountsLock::forWriting(const std::string &path, bool *held) {
  return acquire(path, true, held);
}

Result<CountsLock> CountsLock::forReading(const std::string &path) {
  return acquire(path, false, nullptr);
}

Result<CountsLock> CountsLock::acquire(const std::string &path, bool writing, bool *held) {
  CountsLock lock;
  lock.lockPath = path + ".lock";
  for (int attempt = 0; attempt < 100; ++attempt) {
    lock.fd = ::open(lock.lockPath.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (lock.fd < 0) {
      if (!writing && (errno == EACCES || errno == EROFS || errno == EPERM))
        return lock;
      return systemFailure(path, "cannot make its lock file");
    }
    if (::flock(lock.fd, (writing ? LOCK_EX : LOCK_SH) | LOCK_NB) != 0) {
      if (errno == EINTR)
        continue;
      if (errno != EWOULDBLOCK)
        return systemFailure(path, "cannot lock it");
      const std::string holder = holderOf(lock.fd);
      if (held)
        *held = true;
      ::close(std::exchange(lock.fd, -1)); // not ours to remove
      return Error{fmt::format("{}: is in use by {}", path,
                               holder.empty() ? "a program that reads it" : holder)};
    }
    // A holder that ended meanwhile may have removed the file that was opened here.
    struct stat opened{}, named{};
    if (::fstat(lock.fd, &opened) == 0 && ::stat(lock.lockPath.c_str(), &named) == 0 &&
        opened.st_ino == named.st_ino && opened.st_dev == named.st_dev) {
      // Best effort, the lock holds all the same. A killed writer's name goes too.
      const std::string holder =
          writing ? fmt::format("process {} on {}", ::getpid(), hostName()) : std::string();
      if (::ftruncate(lock.fd, 0) == 0)
        writeAllAt(lock.fd, 0, bytesOf(holder));
      return lock;
    }
    ::close(std::exchange(lock.fd, -1));
  }
  return Error{fmt::format("{}: its lock file changes all the time", path)};
}

CountsLock::CountsLock(CountsLock &&other) noexcept { *this = std::move(other); }

CountsLock &CountsLock::operator=(CountsLock &&other) noexcept {
  if (this != &other) {
    release();
    lockPath = std::move(other.lockPath);
    fd = std::exchange(other.fd, -1);
  }
  return *this;
}

CountsLock::~CountsLock() { release(); }

void CountsLock::release() {
  if (fd < 0)
    return;
  // Other readers may hold it still: only the last one removes it.
  if (::flock(fd, LOCK_EX | LOCK_NB) == 0)
    ::unlink(lockPath.c_str());
  ::close(std::exchange(fd, -1));
}

} // namespace calibatt

// Entries are written like every other file of ours: to a temporary, then renamed.
#include "runtime/format/ContentStore.h"

#include "runtime/format/AtomicFile.h"
#include "runtime/format/Hash.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>
#include <utility>

namespace fs = std::filesystem;

namespace calibatt {
namespace {

constexpr char kMagic[] = "calibatt-store-2\n";
constexpr size_t kMagicBytes = sizeof kMagic - 1;
/// Of the file https://bford.info/cachedir specifies; programs look for this line.
constexpr char kTag[] =
    "Signature: 8a477f597d28d172789f06886806bc55\n"
    "# This folder holds what calibatt compiled. `calibatt cache clear` empties "
    "it.\n";
constexpr const char *kTagName = "/CACHEDIR.TAG";

std::span<const uint8_t> bytesOf(const std::string &text) {
  return {reinterpret_cast<const uint8_t *>(text.data()), text.size()};
}

std::string nameLine(const std::string &kind, const std::string &key) {
  return fmt::format("{} {}\n", kind, key);
}

/// Over the name as well: a file that was renamed is damage, too.
Xxh128Digest entryHash(const std::string &name, std::span<const uint8_t> bytes) {
  return xxh128(bytesOf(name + toHex(xxh128(bytes))));
}

/// An open file, of which nothing is believed.
class OpenEntry {
public:
  /// Neither follows a link nor waits for a pipe.
  explicit OpenEntry(const std::string &path)
      : fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW)) {}
  ~OpenEntry() {
    if (fd >= 0)
      ::close(fd);
  }
  OpenEntry(const OpenEntry &) = delete;

  /// The bytes behind a header that fits `name`, or what is wrong.
  Result<std::vector<uint8_t>> read(const std::string &name) const {
    struct stat info{};
    if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode))
      return Error{"is not a regular file"};
    std::string header(kMagicBytes + sizeof(Xxh128Digest) + sizeof(uint64_t) + name.size(), 0);
    if (!readAt(0, header.data(), header.size()) || !header.starts_with(kMagic))
      return Error{"is damaged, or of another format"};
    uint64_t bytes = 0;
    std::memcpy(&bytes, header.data() + kMagicBytes + sizeof(Xxh128Digest), sizeof bytes);
    if (!header.ends_with(name))
      return Error{"is the entry of another key"};
    if (bytes > ContentStore::kMaxEntryBytes || uint64_t(info.st_size) != header.size() + bytes)
      return Error{fmt::format("has {} bytes, but says {}", info.st_size, bytes)};
    std::vector<uint8_t> content(bytes);
    if (!readAt(header.size(), content.data(), content.size()))
      return Error{"cannot be read"};
    Xxh128Digest hash = entryHash(name, content);
    if (std::memcmp(header.data() + kMagicBytes, hash.data(), hash.size()) != 0)
      return Error{"is damaged: its hash is another"};
    return content;
  }

  const int fd;

private:
  bool readAt(uint64_t offset, void *out, size_t bytes) const {
    for (size_t done = 0; done < bytes;) {
      ssize_t count =
          ::pread(fd, static_cast<char *>(out) + done, bytes - done, off_t(offset + done));
      if (count < 0 && errno == EINTR)
        continue;
      if (count <= 0)
        return false;
      done += size_t(count);
    }
    return true;
  }
};

/// Most machines mount with relatime or noatime: the time of writing is set instead, which no
/// key depends on. Not at every use, to spare a shared file system; fails quietly where the
/// folder is read-only.
void noteUse(int fd) {
  constexpr int64_t kSeconds = 60;
  struct stat info{};
  struct timespec now{};
  if (::fstat(fd, &info) == 0 && ::clock_gettime(CLOCK_REALTIME, &now) == 0 &&
      now.tv_sec - info.st_mtim.tv_sec >= kSeconds)
    ::futimens(fd, nullptr);
}

std::string environment(const char *name) {
  const char *value = std::getenv(name);
  return value ? value : "";
}

} // namespace

std::string ContentStore::defaultFolder() {
  if (const char *named = std::getenv("CALIBATT_CACHE"))
    return named;
  // The specification of these variables has relative paths ignored.
  if (std::string base = environment("XDG_CACHE_HOME"); base.starts_with('/'))
    return base + "/calibatt";
  if (std::string home = environment("HOME"); home.starts_with('/'))
    return home + "/.cache/calibatt";
  return {};
}

Result<ContentStore> ContentStore::open(const std::string &folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error || !fs::is_directory(folder, error))
    return Error{fmt::format("{}: cannot be a cache folder: {}", folder,
                             error ? error.message() : "not a folder")};
  ContentStore store(folder);
  if (!fs::exists(folder + kTagName, error))
    if (auto tag = AtomicFile::create(folder + kTagName))
      if (tag->write(std::string(kTag)))
        (void)tag->commit(); // without it the cache works, but is not cleared by command
  return store;
}

Result<ContentStore> ContentStore::openExisting(const std::string &folder) {
  std::error_code error;
  if (!fs::is_directory(folder, error))
    return Error{fmt::format("{}: is no cache: {}", folder,
                             error ? error.message() : "not there, or not a folder")};
  if (!fs::exists(folder + kTagName, error))
    return Error{fmt::format("{}: is no cache: it has no CACHEDIR.TAG", folder)};
  return ContentStore(folder);
}

std::string ContentStore::entryPath(const std::string &kind, const std::string &key) const {
  // A level more: a folder of a million files is slow on some file systems.
  return fmt::format("{}/{}/{}/{}", root, kind, key.substr(0, 2), key);
}

std::optional<std::vector<uint8_t>>
ContentStore::get(const std::string &kind, const std::string &key, std::string *problem) const {
  const std::string path = entryPath(kind, key);
  const OpenEntry entry(path);
  const int failure = errno;
  if (entry.fd < 0 && (failure == ENOENT || failure == ENOTDIR))
    return std::nullopt;
  Result<std::vector<uint8_t>> bytes =
      entry.fd < 0 ? Error{failure == ELOOP ? "is a link" : std::strerror(failure)}
                   : entry.read(nameLine(kind, key));
  if (!bytes) {
    if (problem)
      *problem = fmt::format("{}: {}", path, bytes.message());
    return std::nullopt;
  }
  noteUse(entry.fd);
  return bytes.take();
}

Status ContentStore::put(const std::string &kind, const std::string &key,
                         std::span<const uint8_t> bytes) const {
  const std::string path = entryPath(kind, key), name = nameLine(kind, key);
  std::error_code error;
  fs::create_directories(fs::path(path).parent_path(), error);
  if (error)
    return Error{fmt::format("{}: {}", fs::path(path).parent_path().string(), error.message())};
  if (bytes.size() > kMaxEntryBytes)
    return Error{fmt::format("{}: would have {} bytes, at most {} are kept", path, bytes.size(),
                             kMaxEntryBytes)};
  struct stat info{};
  if (::lstat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode))
    ::unlink(path.c_str()); // a link or a pipe: nothing of anybody's is lost with it
  auto file = AtomicFile::create(path);
  if (!file)
    return file.takeError();
  std::string header(kMagic, kMagicBytes);
  Xxh128Digest hash = entryHash(name, bytes);
  header.append(reinterpret_cast<const char *>(hash.data()), hash.size());
  const uint64_t size = bytes.size();
  header.append(reinterpret_cast<const char *>(&size), sizeof size);
  header += name;
  if (Status status = file->write(header); !status)
    return status;
  if (Status status = file->write(bytes); !status)
    return status;
  // The hash tells what a crash left half written; waiting for the disk would only cost time.
  return file->commit(AtomicFile::Sync::No);
}

ContentStore::Lock::Lock(Lock &&other) noexcept : fd(std::exchange(other.fd, -1)) {}

ContentStore::Lock &ContentStore::Lock::operator=(Lock &&other) noexcept {
  std::swap(fd, other.fd);
  return *this;
}

ContentStore::Lock::~Lock() {
  if (fd >= 0)
    ::close(fd);
}

ContentStore::Lock ContentStore::lock(const std::string &kind, const std::string &key,
                                      const std::atomic<bool> *cancel) const {
  Lock lock;
  lock.fd = ::open((root + "/lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW,
                   0666);
  struct stat info{};
  if (lock.fd < 0 || ::fstat(lock.fd, &info) != 0 || !S_ISREG(info.st_mode))
    return {};
  // One byte an entry, at an offset that its name decides: no lock files to clean up, and
  // network file systems know byte ranges. Locks of an open file, not of the process, so that
  // threads exclude one another, too.
  Xxh128Digest hash = xxh128(bytesOf(nameLine(kind, key)));
  uint64_t offset = 0;
  std::memcpy(&offset, hash.data(), sizeof offset);
  struct flock range{};
  range.l_type = F_WRLCK;
  range.l_whence = SEEK_SET;
  range.l_start = off_t(offset >> 2);
  range.l_len = 1;
  // Asked for again and again, since a wait in the kernel could not be cancelled.
  auto pause = std::chrono::milliseconds(5);
  while (::fcntl(lock.fd, F_OFD_SETLK, &range) != 0) {
    if ((errno != EAGAIN && errno != EACCES && errno != EINTR) || (cancel && cancel->load()))
      return {};
    std::this_thread::sleep_for(pause);
    pause = std::min(2 * pause, std::chrono::milliseconds(100));
  }
  return lock;
}

} // namespace calibatt

// How much a store holds, and making it hold less. Other processes may read and write
// meanwhile: an entry that goes is a miss for them, a reader that has it open keeps it.
#include "runtime/format/ContentStore.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <sys/stat.h>
#include <tuple>
#include <unistd.h>

namespace fs = std::filesystem;

namespace calibatt {
namespace {

/// A temporary that nobody has written to for so long belongs to nobody.
constexpr int64_t kLeftoverSeconds = 3600;

struct StoredFile {
  std::string path, kind;
  uint64_t bytes = 0;
  int64_t seconds = 0, nanoseconds = 0; ///< last use
  bool leftover = false;
  bool oversized = false; ///< no entry of ours: a sparse file of any size is made in no time
};

/// Of an entry with its header.
constexpr uint64_t kMaxFileBytes = ContentStore::kMaxEntryBytes + 4096;

bool isHex(std::string_view text) {
  return text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

/// The folders in `folder`; what cannot be read has none.
std::vector<fs::path> foldersOf(const fs::path &folder) {
  std::vector<fs::path> found;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error))
    if (std::error_code unread; it->is_directory(unread) && !it->is_symlink(unread))
      found.push_back(it->path());
  return found;
}

/// Every file of the layout in the header, and nothing else the folder may have.
std::vector<StoredFile> filesOf(const std::string &root) {
  constexpr size_t kKeyDigits = 64;
  std::vector<StoredFile> files;
  for (const fs::path &kind : foldersOf(root)) {
    const std::string kindName = kind.filename();
    if (kindName.find_first_not_of("abcdefghijklmnopqrstuvwxyz") != std::string::npos)
      continue;
    for (const fs::path &group : foldersOf(kind)) {
      const std::string prefix = group.filename();
      if (prefix.size() != 2 || !isHex(prefix))
        continue;
      std::error_code error;
      for (fs::directory_iterator it(group, error), end; !error && it != end; it.increment(error)) {
        const std::string name = it->path().filename();
        const std::string_view key = std::string_view(name).substr(0, kKeyDigits);
        const std::string_view rest = std::string_view(name).substr(key.size());
        struct stat info{};
        if (key.size() != kKeyDigits || !isHex(key) || !key.starts_with(prefix) ||
            !(rest.empty() || rest.starts_with(".tmp-")) ||
            ::lstat(it->path().c_str(), &info) != 0 || !S_ISREG(info.st_mode))
          continue;
        files.push_back({it->path(), kindName, uint64_t(info.st_size), info.st_mtim.tv_sec,
                         info.st_mtim.tv_nsec, !rest.empty(),
                         rest.empty() && uint64_t(info.st_size) > kMaxFileBytes});
      }
    }
  }
  return files;
}

void remove(const StoredFile &file, ContentStore::Removed &removed) {
  if (::unlink(file.path.c_str()) == 0) {
    removed.entries += !file.leftover;
    removed.bytes += file.bytes;
  } else if (errno != ENOENT) { // another process was first
    ++removed.failed;
  }
}

} // namespace

ContentStore::Usage ContentStore::usage() const {
  Usage usage;
  for (const StoredFile &file : filesOf(root)) {
    if (file.leftover) {
      usage.leftoverBytes += file.bytes;
      continue;
    }
    Usage::Kind &kind = usage.kinds[file.kind];
    ++kind.entries;
    kind.bytes += file.bytes;
    usage.oldestUse = usage.entries ? std::min(usage.oldestUse, file.seconds) : file.seconds;
    usage.newestUse = std::max(usage.newestUse, file.seconds);
    ++usage.entries;
    usage.bytes += file.bytes;
  }
  return usage;
}

ContentStore::Removed ContentStore::prune(uint64_t limitBytes) const {
  using Seconds = std::chrono::seconds;
  const int64_t now =
      std::chrono::duration_cast<Seconds>(std::chrono::system_clock::now().time_since_epoch())
          .count();
  Removed removed;
  std::vector<StoredFile> entries;
  uint64_t bytes = 0;
  for (StoredFile &file : filesOf(root)) {
    if (file.oversized) {
      remove(file, removed);
    } else if (!file.leftover) {
      bytes += file.bytes;
      entries.push_back(std::move(file));
    } else if (now - file.seconds > kLeftoverSeconds) {
      remove(file, removed);
    }
  }
  std::sort(entries.begin(), entries.end(), [](const StoredFile &a, const StoredFile &b) {
    return std::tie(a.seconds, a.nanoseconds, a.path) < std::tie(b.seconds, b.nanoseconds, b.path);
  });
  for (const StoredFile &entry : entries) {
    if (bytes <= limitBytes)
      break;
    remove(entry, removed);
    bytes -= entry.bytes;
  }
  return removed;
}

ContentStore::Removed ContentStore::clear() const {
  Removed removed;
  for (const StoredFile &file : filesOf(root))
    remove(file, removed);
  return removed;
}

} // namespace calibatt

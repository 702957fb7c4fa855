// Files that appear whole or not at all.
#pragma once

#include "runtime/format/Result.h"

#include <cstdint>
#include <span>
#include <string>

namespace calibatt {

/// Writes to a temporary in the folder of `path`; commit() syncs it and renames it over
/// `path`. Destroyed without commit(), nothing stays behind. Where the file system has files
/// without a name (Linux's usual ones do), a process that is killed leaves nothing either.
/// Every error names `path`.
class AtomicFile {
public:
  /// Fails where the folder is missing or not writable, or `path` exists and is
  /// not a regular file.
  static Result<AtomicFile> create(const std::string &path);

  AtomicFile(AtomicFile &&other) noexcept;
  AtomicFile &operator=(AtomicFile &&other) noexcept;
  ~AtomicFile();

  const std::string &path() const { return finalPath; }
  /// Bytes written so far.
  uint64_t size() const { return written; }
  /// Appends; fails where the disk is full.
  Status write(std::span<const uint8_t> bytes);
  Status write(const std::string &text);
  enum class Sync { Yes, No };
  /// Call once, after the last write. Without a sync the file may be damaged after a crash of
  /// the machine: only for what has a hash inside and can be made again.
  Status commit(Sync sync = Sync::Yes);

private:
  AtomicFile() = default;
  Error failure(const char *what) const;
  Status giveName();
  void discard();

  std::string finalPath;
  std::string temporary; ///< empty while it has no name
  int fd = -1;
  uint64_t written = 0;
};

/// An unnamed file on disk that is written from front to back and then copied
/// into an AtomicFile: data whose size is not known when it starts.
class SpoolFile {
public:
  /// In the folder of `beside`, which names the errors too.
  static Result<SpoolFile> create(const std::string &beside);

  SpoolFile(SpoolFile &&other) noexcept;
  SpoolFile &operator=(SpoolFile &&other) noexcept;
  ~SpoolFile();

  uint64_t size() const { return written; }
  Status write(std::span<const uint8_t> bytes);
  /// Appends everything written here to `out`.
  Status copyTo(AtomicFile &out);

private:
  SpoolFile() = default;

  std::string besidePath;
  int fd = -1;
  uint64_t written = 0;
};

} // namespace calibatt

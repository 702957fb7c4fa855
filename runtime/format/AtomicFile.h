// Files that appear whole or not at all.
#pragma once

#include "runtime/format/Result.h"

#include <cstdint>
#include <span>
#include <string>

namespace calibatt {

/// Writes to a temporary beside `path`; commit() syncs it and renames it over
/// `path`. Destroyed without commit(), nothing stays behind. Every error names `path`.
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
  /// Call once, after the last write.
  Status commit();

private:
  AtomicFile() = default;
  Error failure(const char *what) const;
  void discard();

  std::string finalPath, temporary;
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

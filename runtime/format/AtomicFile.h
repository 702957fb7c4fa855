// Files that appear whole or not at all.
#pragma once

#include "runtime/format/TemporaryFile.h"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace calibatt {

/// Writes to a temporary in the folder of `path`; commit() syncs it and renames it over
/// `path`. Destroyed without commit(), nothing stays behind (see TemporaryFile for a process that
/// is killed). Every error names `path`.
class AtomicFile {
public:
  /// Fails where the folder is missing or not writable, or `path` exists and is
  /// not a regular file.
  static Result<AtomicFile> create(const std::string &path);

  const std::string &path() const { return file.path(); }
  /// Bytes written so far.
  uint64_t size() const { return written; }
  /// Appends; fails where the disk is full.
  Status write(std::span<const uint8_t> bytes);
  Status write(const std::string &text);
  /// All of commit() that a full disk can make fail; for those who commit several files together.
  Status prepare();
  enum class Sync { Yes, No };
  /// Call once, after the last write. Without a sync the file may be damaged after a crash of
  /// the machine: only for what has a hash inside and can be made again, or is synced.
  Status commit(Sync sync = Sync::Yes);

private:
  explicit AtomicFile(TemporaryFile file) : file(std::move(file)) {}

  TemporaryFile file;
  uint64_t written = 0;
};

/// A file to write, with what is to be in it.
struct NamedBytes {
  std::string path;
  std::span<const uint8_t> bytes;
};
/// All of them or none: each is written and synced before the first gets its name, so that a full
/// disk leaves what was there.
Status writeTogether(const std::vector<NamedBytes> &files);

/// An unnamed file on disk that is written from front to back and then copied
/// into an AtomicFile: data whose size is not known when it starts.
class SpoolFile {
public:
  /// In the folder of `beside`, which names the errors too.
  static Result<SpoolFile> create(const std::string &beside);

  uint64_t size() const { return written; }
  Status write(std::span<const uint8_t> bytes);
  /// Appends everything written here to `out`.
  Status copyTo(AtomicFile &out);

private:
  SpoolFile() = default;

  TemporaryFile file;
  uint64_t written = 0;
};

} // namespace calibatt

// A file that has no name, or a temporary one, until it is whole.
#pragma once

#include "runtime/format/Result.h"

#include <cstdint>
#include <span>
#include <string>

namespace calibatt {

/// Belongs in the folder of `path`, and gets its name by replace(). Destroyed before, nothing stays
/// behind. Where the file system has files without a name (Linux's usual ones do), neither does it
/// when the process is killed; elsewhere, and for the instant before the rename, it is called
///
///   PATH.tmp-calibatt-HOST-PID-N
///
/// and locked. create() removes files of that name whose writer is gone: nobody holds the lock, and
/// they are of this host, or were not written to for an hour.
class TemporaryFile {
public:
  /// Fails where the folder is missing or not writable, or `path` exists and is not a regular file.
  /// Every error names `path`.
  static Result<TemporaryFile> create(const std::string &path);

  TemporaryFile() = default;
  TemporaryFile(TemporaryFile &&other) noexcept;
  TemporaryFile &operator=(TemporaryFile &&other) noexcept;
  ~TemporaryFile();

  const std::string &path() const { return finalPath; }
  int descriptor() const { return fd; }
  /// For good: the file is gone when it is closed, or the process ends.
  void removeName();
  /// Waits until what was written is on the disk: a full one shows here at the latest.
  Status sync();
  /// Gives it its temporary name, if it has none: a folder needs room for that, too.
  Status giveName();
  /// Gives it its own, in place of what had it. Call once; the file is closed.
  Status replace();

  /// "PATH: WHAT: reason", with the reason of errno.
  Error failure(const char *what) const;

private:
  void discard();

  std::string finalPath;
  std::string temporary; ///< empty while it has no name
  int fd = -1;
};

/// The folder that a path is in.
std::string folderOf(const std::string &path);
/// Makes renames and removals in a folder last; best effort.
void syncFolder(const std::string &folder);

} // namespace calibatt

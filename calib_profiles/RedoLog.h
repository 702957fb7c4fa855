// What is about to be written into a file in place, on disk before it is: a
// program that is killed while writing leaves a file that can be set right.
#pragma once

#include "runtime/format/Result.h"

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace calibatt {

/// Bytes for one place of a file.
struct Extent {
  uint64_t offset = 0;
  std::vector<uint8_t> bytes;
};

/// Entries of one change to a file, in two files beside it that take turns: while
/// one is overwritten the other has what was applied last.
class RedoLog {
public:
  /// At most so many extents an entry.
  static constexpr size_t kMaxExtents = 8;

  /// `change` tells this change's entries from those of others. Creates nothing.
  RedoLog(std::string path, uint64_t change) : path(std::move(path)), change(change) {}

  /// Writes entry `number`, which is above the last one's, durably, then applies it
  /// to `fd` durably.
  Status apply(int fd, uint64_t number, const std::vector<Extent> &extents);
  /// Applies the last whole entry of this change again, and returns its number;
  /// nothing where there is none. Refuses extents beyond `fileSize`.
  Result<std::optional<uint64_t>> replay(int fd, uint64_t fileSize);
  /// Once nothing needs it any more.
  static void remove(const std::string &path);

private:
  static std::string slotPath(const std::string &path, uint64_t slot);

  std::string path;
  uint64_t change;
  uint64_t slot = 0; ///< the one to write next, whose entry is not needed any more
};

} // namespace calibatt

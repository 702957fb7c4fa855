// What was expensive to make, kept on disk and found by what it was made from.
// Processes, and machines with a common file system, may use one folder at a time.
#pragma once

#include "runtime/format/Result.h"

#include <atomic>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace calibatt {

/// A folder of entries, one file each, named by a kind (a word of lower-case letters) and
/// a key (a SHA-256 as 64 lower-case hex digits). Safe from several threads.
///
///   FOLDER/KIND/ab/abcd...    magic, hash, size, kind and key, the bytes
///   FOLDER/CACHEDIR.TAG       marks the folder as ours, and as nothing to back up
///   FOLDER/lock               empty; byte ranges of it are locked, one an entry
///
/// To make each entry once, whoever asks: get(); if it misses, lock(), get() again, and
/// only then make it and put() it.
class ContentStore {
public:
  /// $CALIBATT_CACHE, else calibatt in $XDG_CACHE_HOME, else in ~/.cache. Empty, for none,
  /// where $CALIBATT_CACHE is set to nothing or none of the variables is set.
  static std::string defaultFolder();
  /// Makes the folder where it is missing; fails where it cannot. A folder that cannot be
  /// written is good for get().
  static Result<ContentStore> open(const std::string &folder);
  /// Fails where the folder is not there, or is none of ours: nothing is made.
  static Result<ContentStore> openExisting(const std::string &folder);

  const std::string &folder() const { return root; }

  /// No entry is larger.
  static constexpr uint64_t kMaxEntryBytes = 1u << 30;
  /// What put() was given, and marks it as used now. A missing entry is a miss, and so is what is
  /// there and no entry: damaged, of another size than it says, a link, a pipe. `problem` is then
  /// told what, with the path. Whether the bytes are what the key promises, the caller has to
  /// check: whoever writes here may have been mistaken.
  std::optional<std::vector<uint8_t>> get(const std::string &kind, const std::string &key,
                                          std::string *problem = nullptr) const;
  /// Where the entry of a key is, for messages.
  std::string path(const std::string &kind, const std::string &key) const {
    return entryPath(kind, key);
  }
  /// Appears whole or not at all, in place of what was there.
  Status put(const std::string &kind, const std::string &key, std::span<const uint8_t> bytes) const;

  /// Held while an entry is made; ends with the process at the latest.
  class Lock {
  public:
    Lock() = default;
    Lock(Lock &&other) noexcept;
    Lock &operator=(Lock &&other) noexcept;
    ~Lock();

  private:
    friend class ContentStore;
    int fd = -1;
  };
  /// Waits while another thread, process or machine holds this entry's, or until `cancel`
  /// is set. Take no second one meanwhile. Where the folder cannot be locked (it is read-only,
  /// or on a file system without locks) there is no wait, and work may be done twice.
  Lock lock(const std::string &kind, const std::string &key,
            const std::atomic<bool> *cancel = nullptr) const;

  struct Usage {
    struct Kind {
      uint64_t entries = 0, bytes = 0;
    };
    std::map<std::string, Kind> kinds;
    uint64_t entries = 0, bytes = 0;
    int64_t oldestUse = 0, newestUse = 0; ///< Unix seconds; 0 where there are no entries
    uint64_t leftoverBytes = 0;           ///< of writers that were killed, or are at work
  };
  Usage usage() const;

  struct Removed {
    uint64_t entries = 0, bytes = 0; ///< leftovers included
    uint64_t failed = 0;             ///< that are still there: not ours to remove
  };
  /// Removes the entries that were not used for longest until at most `limitBytes` are
  /// left, and leftovers older than an hour.
  Removed prune(uint64_t limitBytes) const;
  /// Removes every entry and leftover, and nothing that is not one.
  Removed clear() const;

private:
  explicit ContentStore(std::string folder) : root(std::move(folder)) {}
  std::string entryPath(const std::string &kind, const std::string &key) const;

  std::string root;
};

} // namespace calibatt

// Who may use a counts file: one writer, or any number of readers.
#pragma once

#include "runtime/format/Result.h"

#include <string>

namespace calibatt {

/// A lock of the operating system on `PATH.lock`, which goes with the process
/// however it ends. The file has the holder's pid and host, and is removed with the lock.
class CountsLock {
public:
  /// Fails at once where others hold it, and sets `held`; the message names the
  /// writer's pid and host.
  static Result<CountsLock> forWriting(const std::string &path, bool *held = nullptr);
  /// The same; in a folder that cannot be written, where nobody can be writing, without a lock.
  static Result<CountsLock> forReading(const std::string &path);

  CountsLock(CountsLock &&other) noexcept;
  CountsLock &operator=(CountsLock &&other) noexcept;
  ~CountsLock();

private:
  CountsLock() = default;
  static Result<CountsLock> acquire(const std::string &path, bool writing, bool *held);
  void release();

  std::string lockPath;
  int fd = -1;
};

} // namespace calibatt

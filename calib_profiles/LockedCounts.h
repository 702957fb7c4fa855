// Counts as a reader gets them: locked, and with nothing left half done.
#pragma once

#include "calib_profiles/CountsFile.h"
#include "calib_profiles/CountsLock.h"

#include <string>

namespace calibatt {

/// Open counts and the lock that keeps writers away.
struct LockedCounts {
  CountsLock lock;
  CountsReader counts;

  /// Finishes a prompt that a killed run left half folded in, then opens for
  /// reading. Fails where another process is writing.
  static Result<LockedCounts> open(const std::string &path);
};

/// Whether a file says that it holds counts; nothing else of it is checked.
bool looksLikeCounts(const std::string &path);

} // namespace calibatt

// Recovery before reading.
#include "calib_profiles/LockedCounts.h"
#include "calib_profiles/PromptFold.h"

#include <fmt/format.h>

namespace calibatt {

Result<LockedCounts> LockedCounts::open(const std::string &path) {
  if (hasWaitingPrompt(path)) {
    Result<CountsLock> writing = CountsLock::forWriting(path);
    if (!writing)
      return writing.takeError();
    if (Result<bool> folded = foldWaitingPrompt(path); !folded)
      return folded.takeError();
  }
  Result<CountsLock> lock = CountsLock::forReading(path);
  if (!lock)
    return lock.takeError();
  Result<CountsReader> counts = CountsReader::open(path);
  if (!counts)
    return counts.takeError();
  if (counts->interrupted())
    return Error{fmt::format("{}: prompt {} is half folded in, and its record is missing", path,
                             *counts->interrupted())};
  return LockedCounts{lock.take(), counts.take()};
}

bool looksLikeCounts(const std::string &path) {
  Result<SafetensorsReader> file = SafetensorsReader::open(path);
  return file && file->metadata(kCountsKey);
}

} // namespace calibatt

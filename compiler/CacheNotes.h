// What was found in the cache, and was not what its key promises.
#pragma once

#include "compiler/CompileOptions.h"
#include "runtime/format/Quantity.h"

#include <fmt/format.h>

#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>

namespace calibatt {

/// Counts the entries that were made again; a damaged disk has thousands, of which the first is
/// told in full. Safe from several threads.
class CacheNotes {
public:
  /// Nothing where `problem` is empty.
  void add(const std::string &problem) {
    if (problem.empty())
      return;
    std::lock_guard lock(mutex);
    if (count++ == 0)
      first = problem;
  }
  void tell(std::string_view what, const CompileEvents &events) const {
    if (count == 0 || !events.remark)
      return;
    const std::string others =
        count == 1 ? ""
                   : fmt::format(" (and {})", counted(count - 1, "other entry", "other entries"));
    events.remark(fmt::format("cache: {}{}: the {} was made again", first, others, what));
  }

private:
  std::mutex mutex;
  std::string first;
  uint64_t count = 0;
};

} // namespace calibatt

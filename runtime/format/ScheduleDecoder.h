// Data images made again from what a package stores of them.
#pragma once

#include "runtime/format/Package.h"
#include "runtime/format/ScheduleMasks.h"

namespace calibatt {

/// Remembers the schedule it decoded last, so that those of a layer are decoded quickest one after
/// the other, in the order of their numbers. Not for several threads; the package outlives it.
class ScheduleDecoder {
public:
  explicit ScheduleDecoder(const PackageReader &package) : package(&package) {}

  /// The image, its hash checked. `data` is less than dataCount().
  Result<std::vector<uint8_t>> image(uint32_t data);

private:
  Status decode(uint32_t data);

  const PackageReader *package;
  uint32_t last = kNone; ///< whose masks and header are here
  ScheduleMasks masks;
  ScheduleHeader header{};
};

} // namespace calibatt

// Schedules of a layer on their way into a package: each as what differs from the
// one before it, every eighth whole, compressed. Several layers may be encoded at a time.
#pragma once

#include "runtime/format/ChunkPool.h"
#include "runtime/format/ScheduleMasks.h"

#include <map>

namespace calibatt {

/// `reference` of a schedule that is stored whole.
constexpr uint32_t kWholeSchedule = UINT32_MAX;
/// The most references that lead to a whole schedule: what a reader has to decode besides the one
/// it wants. Writers of this version stay far below.
constexpr uint32_t kMaxScheduleDepth = 64;

/// A schedule as a package stores it (ScheduleCodec.h), and what there is to know of its image.
struct StoredSchedule {
  CompressedItem content;
  uint32_t reference = kWholeSchedule; ///< an earlier one of the same list
  Form form = Form::Runs;
  uint32_t tokens = 0, heads = 0;
  uint64_t visits = 0;
  uint64_t imageBytes = 0;
  Xxh128Digest imageHash{};
};

class ScheduleEncoder {
public:
  /// Returns the schedule's number in the list: the same for the same image. Schedules of one
  /// `chain` (a head range) are stored as differences, and should come in the order of their steps.
  /// `image` is that of the masks, in the form it is stored for.
  Result<uint32_t> add(ScheduleMasks masks, std::span<const uint8_t> image, uint32_t chain = 0);
  std::vector<StoredSchedule> take() { return std::move(list); }

private:
  struct Link {
    ScheduleMasks masks;
    uint32_t index = 0, depth = 0;
  };
  std::vector<StoredSchedule> list;
  std::map<Xxh128Digest, uint32_t> known; ///< by image
  std::map<uint32_t, Link> chains;        ///< the last one of each
};

} // namespace calibatt

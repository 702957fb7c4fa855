#include "runtime/format/ScheduleEncoder.h"

#include "runtime/format/ScheduleCodec.h"

#include <cstring>

namespace calibatt {

namespace {

/// A step in the middle of a model decodes at most this many others; at 480p whole schedules every
/// 8 steps cost 10 % of the package's bytes.
constexpr uint32_t kDepth = 7;
/// Whole bitmaps gain 6 % from a level whose search is deeper, differences nothing.
constexpr int kWholeLevel = 9, kDifferenceLevel = 3;

} // namespace

Result<uint32_t> ScheduleEncoder::add(ScheduleMasks masks, std::span<const uint8_t> image,
                                      uint32_t chain) {
  if (Status sound = checkMasks(masks, "schedule"); !sound)
    return sound.takeError();
  StoredSchedule stored;
  stored.imageHash = xxh128(image);
  auto [entry, isNew] = known.emplace(stored.imageHash, uint32_t(list.size()));
  if (!isNew)
    return entry->second;
  ScheduleHeader header;
  std::memcpy(&header, image.data(), sizeof(header));
  stored.form = Form(header.form);
  stored.tokens = header.tokens;
  stored.heads = header.heads;
  stored.visits = header.visits;
  stored.imageBytes = image.size();

  auto last = chains.find(chain);
  const bool mayRefer = last != chains.end() && last->second.depth < kDepth;
  bool refers = false;
  std::vector<uint8_t> bytes =
      encodeSchedule(header, masks, mayRefer ? &last->second.masks : nullptr, refers);
  if (refers)
    stored.reference = last->second.index;
  Result<CompressedItem> content = compressItem(bytes, refers ? kDifferenceLevel : kWholeLevel);
  if (!content)
    return content.takeError();
  stored.content = content.take();
  const uint32_t depth = refers ? last->second.depth + 1 : 0;
  chains.insert_or_assign(chain, Link{std::move(masks), entry->second, depth});
  list.push_back(std::move(stored));
  return entry->second;
}

} // namespace calibatt

// Data images: the bytes of ScheduleLayout.h, built from lists and decoded back
// into lists. The image of a schedule is unique, so the decoder can demand it.
#include "runtime/format/ScheduleImage.h"

#include "runtime/format/ScheduleMasks.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>

namespace calibatt {
namespace {

/// The key blocks of a checked row, in visiting order.
std::vector<uint16_t> unpackRow(const ScheduleHeader &header, const RowEntry &entry,
                                std::span<const uint8_t> image) {
  std::vector<uint16_t> blocks;
  blocks.reserve(entry.visits & kRowVisitsMask);
  const bool runs = header.form == unsigned(Form::Runs);
  for (unsigned i = 0; i < entry.words; ++i) {
    // A bitmap is read from its end, a list of runs from its beginning.
    const unsigned at = runs ? i : entry.words - 1u - i;
    uint32_t word;
    std::memcpy(&word, image.data() + header.words_offset + 4 * (uint64_t(entry.begin) + at), 4);
    if (runs) {
      const unsigned first = runTokenStart(word) / kBlock;
      for (unsigned block = first + runBlocks(word); block-- > first;)
        blocks.push_back(uint16_t(block));
    } else {
      for (unsigned bit = 32; bit-- > 0;)
        if (word >> bit & 1)
          blocks.push_back(uint16_t(at * 32 + bit));
    }
  }
  return blocks;
}

} // namespace

Schedule canonicalSchedule(const Schedule &schedule) {
  Schedule canonical = schedule;
  canonical.rowClass.clear();
  canonical.classes.clear();
  std::map<std::vector<uint16_t>, uint32_t> numbers;
  std::vector<uint32_t> renumber(schedule.classes.size(), UINT32_MAX);
  canonical.rowClass.reserve(schedule.rowClass.size());
  for (uint32_t rowClass : schedule.rowClass) {
    if (rowClass == kAbsentRow) {
      canonical.rowClass.push_back(kAbsentRow);
      continue;
    }
    if (renumber[rowClass] == UINT32_MAX) {
      const std::vector<uint16_t> &row = schedule.classes[rowClass];
      auto [entry, isNew] = numbers.emplace(row, uint32_t(canonical.classes.size()));
      if (isNew)
        canonical.classes.push_back(row);
      renumber[rowClass] = entry->second;
    }
    canonical.rowClass.push_back(renumber[rowClass]);
  }
  return canonical;
}

uint64_t scheduleImageBytes(const Schedule &schedule, Form form) {
  return buildScheduleImage(schedule, form).size();
}

std::vector<uint8_t> buildScheduleImage(const Schedule &schedule, Form form) {
  return buildScheduleImage(masksOf(schedule), form);
}

Result<Schedule> decodeScheduleImage(std::span<const uint8_t> image, const std::string &name) {
  Result<ScheduleHeader> checked = checkScheduleImage(image, name);
  if (!checked)
    return checked.takeError();
  const ScheduleHeader &header = *checked;
  Schedule schedule;
  schedule.tokens = header.tokens;
  schedule.heads = header.heads;
  schedule.queryBlocks = header.query_blocks;
  schedule.keyBlocks = header.key_blocks;
  std::vector<uint8_t> repetitive(header.heads);
  std::map<uint32_t, uint32_t> classAt; // rows share words, each class has its own
  std::map<std::vector<uint16_t>, uint32_t> classes;
  const uint64_t rows = uint64_t(header.heads) * header.query_blocks;
  schedule.rowClass.reserve(rows);
  for (uint64_t row = 0; row < rows; ++row) {
    RowEntry entry;
    std::memcpy(&entry, image.data() + header.rows_offset + row * sizeof entry, sizeof entry);
    if (entry.visits == 0) {
      schedule.rowClass.push_back(kAbsentRow);
      continue;
    }
    if (entry.visits & kRowIsPacked)
      repetitive[row / header.query_blocks] = 1;
    const auto [known, isNew] = classAt.emplace(entry.begin, uint32_t(schedule.classes.size()));
    if (isNew) {
      schedule.classes.push_back(unpackRow(header, entry, image));
      if (!classes.emplace(schedule.classes.back(), known->second).second)
        return Error{fmt::format("{}: row {}: has the blocks of a row before it, but words of its "
                                 "own (equal rows share words)",
                                 name, row)};
    }
    schedule.rowClass.push_back(known->second);
  }
  if (header.anchors) {
    schedule.repetitive = std::move(repetitive);
    schedule.grid = {header.grid_height, header.grid_width, header.anchors};
  }
  return schedule;
}

uint32_t scheduleCapacityClass(uint64_t bytes) {
  uint64_t capacity = 4096;
  while (capacity < bytes && capacity < (1u << 30))
    capacity *= 4;
  return uint32_t(capacity);
}

} // namespace calibatt

// Data images: the bytes of ScheduleLayout.h, built from lists and decoded back
// into lists. The image of a schedule is unique, so the decoder can demand it.
#include "runtime/format/ScheduleImage.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>

namespace calibatt {
namespace {

static_assert(sizeof(ScheduleHeader) == 64 && sizeof(RowEntry) == 8);

constexpr uint64_t kSectionAlignment = 16;

uint64_t alignSection(uint64_t bytes) {
  return (bytes + kSectionAlignment - 1) / kSectionAlignment * kSectionAlignment;
}

uint32_t bitmapWords(uint32_t keyBlocks) { return (keyBlocks + 31) / 32; }

/// Runs of a descending row, highest first; longer runs than a word can say are split.
std::vector<uint32_t> packRow(const std::vector<uint16_t> &row) {
  std::vector<uint32_t> runs;
  for (size_t i = 0; i < row.size();) {
    size_t end = i + 1;
    while (end < row.size() && row[end] + 1 == row[end - 1] && end - i < kMaxRunBlocks)
      ++end;
    runs.push_back(packRun(row[end - 1] * kBlock, unsigned(end - i)));
    i = end;
  }
  return runs;
}

std::vector<uint32_t> packBitmap(const std::vector<uint16_t> &row, uint32_t keyBlocks) {
  std::vector<uint32_t> words(bitmapWords(keyBlocks));
  for (uint16_t block : row)
    words[block / 32] |= 1u << (block % 32);
  return words;
}

std::vector<uint32_t> packWords(const std::vector<uint16_t> &row, Form form, uint32_t keyBlocks) {
  return form == Form::Runs ? packRow(row) : packBitmap(row, keyBlocks);
}

bool startsWithTail(const std::vector<uint16_t> &row, uint32_t tokens, uint32_t keyBlocks) {
  return tokens % kBlock != 0 && !row.empty() && row.front() + 1u == keyBlocks;
}

void put(std::vector<uint8_t> &image, uint64_t offset, const void *data, size_t bytes) {
  if (bytes)
    std::memcpy(image.data() + offset, data, bytes);
}

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
  Schedule canonical = canonicalSchedule(schedule);
  uint64_t words = 0;
  for (const std::vector<uint16_t> &row : canonical.classes)
    words += form == Form::Runs ? packRow(row).size() : bitmapWords(schedule.keyBlocks);
  uint64_t rowsEnd = sizeof(ScheduleHeader) + canonical.rowClass.size() * sizeof(RowEntry);
  return alignSection(alignSection(rowsEnd) + 4 * words);
}

std::vector<uint8_t> buildScheduleImage(const Schedule &schedule, Form form) {
  Schedule canonical = canonicalSchedule(schedule);
  std::vector<uint32_t> words;
  std::vector<RowEntry> entryOfClass, entries;
  for (const std::vector<uint16_t> &row : canonical.classes) {
    std::vector<uint32_t> packed = packWords(row, form, schedule.keyBlocks);
    unsigned flag =
        startsWithTail(row, schedule.tokens, schedule.keyBlocks) ? kRowStartsWithTail : 0;
    entryOfClass.push_back({unsigned(words.size()), static_cast<unsigned short>(packed.size()),
                            static_cast<unsigned short>(row.size() | flag)});
    words.insert(words.end(), packed.begin(), packed.end());
  }
  uint64_t visits = 0;
  for (size_t row = 0; row < canonical.rowClass.size(); ++row) {
    const uint32_t rowClass = canonical.rowClass[row];
    if (rowClass == kAbsentRow) {
      entries.push_back({});
      continue;
    }
    entries.push_back(entryOfClass[rowClass]);
    if (schedule.isRepetitive(uint32_t(row / schedule.queryBlocks)))
      entries.back().visits |= kRowIsPacked;
    visits += canonical.classes[rowClass].size();
  }
  ScheduleHeader header{};
  header.magic = kScheduleMagic;
  header.version = kScheduleVersion;
  header.form = unsigned(form);
  header.heads = schedule.heads;
  header.query_blocks = schedule.queryBlocks;
  header.key_blocks = schedule.keyBlocks;
  header.tokens = schedule.tokens;
  header.rows_offset = sizeof(ScheduleHeader);
  header.words_offset =
      unsigned(alignSection(sizeof(ScheduleHeader) + entries.size() * sizeof(RowEntry)));
  header.word_count = unsigned(words.size());
  header.visits = unsigned(visits);
  header.grid_height = schedule.grid.height;
  header.grid_width = schedule.grid.width;
  header.anchors = schedule.grid.anchors;
  std::vector<uint8_t> image(alignSection(header.words_offset + 4 * uint64_t(words.size())));
  put(image, 0, &header, sizeof(header));
  put(image, header.rows_offset, entries.data(), entries.size() * sizeof(RowEntry));
  put(image, header.words_offset, words.data(), words.size() * 4);
  return image;
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

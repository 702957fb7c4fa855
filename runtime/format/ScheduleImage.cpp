// Data images: the bytes of ScheduleLayout.h, built from lists and checked back
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

/// Decodes an image whose header is already known to fit.
class ImageDecoder {
public:
  ImageDecoder(std::span<const uint8_t> image, const std::string &name)
      : image(image), name(name) {}
  Result<Schedule> decode();

private:
  template <typename... Args>
  Error error(fmt::format_string<Args...> format, Args &&...args) const {
    return Error{name + ": " + fmt::format(format, std::forward<Args>(args)...)};
  }
  Status checkHeader() const;
  Status decodeRow(const RowEntry &entry, uint64_t row, std::vector<uint16_t> &blocks) const;
  Status decodeRuns(const RowEntry &entry, uint64_t row, std::vector<uint16_t> &blocks) const;
  Status decodeBitmap(const RowEntry &entry, uint64_t row, std::vector<uint16_t> &blocks) const;
  uint32_t word(uint64_t index) const {
    uint32_t value;
    std::memcpy(&value, image.data() + header.words_offset + 4 * index, 4);
    return value;
  }

  std::span<const uint8_t> image;
  const std::string &name;
  ScheduleHeader header{};
};

Status ImageDecoder::checkHeader() const {
  const ScheduleHeader &h = header;
  if (h.magic != kScheduleMagic)
    return error("magic is {:#010x}, wanted {:#010x}", h.magic, kScheduleMagic);
  if (h.version != kScheduleVersion)
    return error("version is {}, wanted {}", h.version, kScheduleVersion);
  if (h.form != unsigned(Form::Runs) && h.form != unsigned(Form::Table))
    return error("form is {}, wanted {} (runs) or {} (table)", h.form, unsigned(Form::Runs),
                 unsigned(Form::Table));
  if (h.heads == 0 || h.heads > kMaxHeads)
    return error("heads is {}, wanted 1 to {}", h.heads, kMaxHeads);
  if (h.tokens == 0 || h.tokens > kMaxRows * kBlock)
    return error("tokens is {}, wanted 1 to {}", h.tokens, kMaxRows * kBlock);
  unsigned blocks = (h.tokens + kBlock - 1) / kBlock;
  if (h.query_blocks != blocks || h.key_blocks != blocks)
    return error("has {} query and {} key blocks, but {} tokens have {}", h.query_blocks,
                 h.key_blocks, h.tokens, blocks);
  uint64_t rows = uint64_t(h.heads) * h.query_blocks;
  if (h.rows_offset != sizeof(ScheduleHeader))
    return error("rows_offset is {}, wanted {}", h.rows_offset, sizeof(ScheduleHeader));
  uint64_t wordsOffset = alignSection(sizeof(ScheduleHeader) + rows * sizeof(RowEntry));
  if (h.words_offset != wordsOffset)
    return error("words_offset is {}, wanted {}", h.words_offset, wordsOffset);
  uint64_t size = alignSection(wordsOffset + 4 * uint64_t(h.word_count));
  if (image.size() != size)
    return error("has {} bytes, but {} rows and {} words need {}", image.size(), rows, h.word_count,
                 size);
  const AnchorGrid grid{h.grid_height, h.grid_width, h.anchors};
  if (grid != AnchorGrid{} && !isValid(grid, h.tokens))
    return error("{} anchors in a grid of {} x {} do not fit {} tokens", h.anchors, h.grid_height,
                 h.grid_width, h.tokens);
  for (unsigned reserved : h.reserved)
    if (reserved)
      return error("a reserved header field is {}, wanted 0", reserved);
  auto isZero = [&](uint64_t begin, uint64_t end) {
    for (; begin < end; ++begin)
      if (image[begin])
        return false;
    return true;
  };
  if (!isZero(sizeof(ScheduleHeader) + rows * sizeof(RowEntry), wordsOffset) ||
      !isZero(wordsOffset + 4 * uint64_t(h.word_count), size))
    return error("padding is not zero");
  return {};
}

Status ImageDecoder::decodeRuns(const RowEntry &entry, uint64_t row,
                                std::vector<uint16_t> &blocks) const {
  unsigned previous = header.key_blocks; // first block of the run before, exclusive bound
  for (unsigned i = 0; i < entry.words; ++i) {
    unsigned run = word(uint64_t(entry.begin) + i);
    unsigned token = runTokenStart(run), count = runBlocks(run);
    if (token % kBlock)
      return error("row {}, run {}: begins at token {}, not a multiple of {}", row, i, token,
                   kBlock);
    unsigned first = token / kBlock;
    if (count == 0)
      return error("row {}, run {}: is empty", row, i);
    if (first + count > previous)
      return error("row {}, run {}: ends at block {}, wanted at most {} (runs go down and do not "
                   "overlap)",
                   row, i, first + count, previous);
    // Two runs that touch are one run, unless a word cannot say how long it is.
    if (i && first + count == previous &&
        runBlocks(word(uint64_t(entry.begin) + i - 1)) != kMaxRunBlocks)
      return error("row {}, run {}: touches the run before it", row, i);
    for (unsigned block = first + count; block-- > first;)
      blocks.push_back(uint16_t(block));
    previous = first;
  }
  return {};
}

Status ImageDecoder::decodeBitmap(const RowEntry &entry, uint64_t row,
                                  std::vector<uint16_t> &blocks) const {
  if (entry.words != bitmapWords(header.key_blocks))
    return error("row {}: bitmap has {} words, but {} key blocks need {}", row, entry.words,
                 header.key_blocks, bitmapWords(header.key_blocks));
  for (unsigned i = entry.words; i-- > 0;) {
    unsigned bits = word(uint64_t(entry.begin) + i);
    for (unsigned bit = 32; bit-- > 0;) {
      if (!(bits >> bit & 1))
        continue;
      if (i * 32 + bit >= header.key_blocks)
        return error("row {}: bitmap has block {}, but there are {}", row, i * 32 + bit,
                     header.key_blocks);
      blocks.push_back(uint16_t(i * 32 + bit));
    }
  }
  return {};
}

Status ImageDecoder::decodeRow(const RowEntry &entry, uint64_t row,
                               std::vector<uint16_t> &blocks) const {
  if (uint64_t(entry.begin) + entry.words > header.word_count)
    return error("row {}: words end at {}, but there are {}", row,
                 uint64_t(entry.begin) + entry.words, header.word_count);
  if (entry.words == 0)
    return error("row {}: has no key blocks", row);
  Status status = header.form == unsigned(Form::Runs) ? decodeRuns(entry, row, blocks)
                                                      : decodeBitmap(entry, row, blocks);
  if (!status)
    return status;
  if (blocks.empty())
    return error("row {}: has no key blocks", row);
  return {};
}

Result<Schedule> ImageDecoder::decode() {
  if (image.size() < sizeof(ScheduleHeader))
    return error("has {} bytes, too few for the {}-byte header", image.size(),
                 sizeof(ScheduleHeader));
  std::memcpy(&header, image.data(), sizeof(header));
  if (Status status = checkHeader(); !status)
    return status.takeError();

  Schedule schedule;
  schedule.tokens = header.tokens;
  schedule.heads = header.heads;
  schedule.queryBlocks = header.query_blocks;
  schedule.keyBlocks = header.key_blocks;
  uint64_t rows = uint64_t(header.heads) * header.query_blocks, visits = 0, nextWord = 0;
  schedule.rowClass.reserve(rows);
  // Rows share words; each distinct (begin, words) is decoded once.
  std::map<std::pair<uint32_t, uint32_t>, uint32_t> classAt;
  std::map<std::vector<uint16_t>, uint32_t> classes;
  const AnchorGrid grid{header.grid_height, header.grid_width, header.anchors};
  std::vector<uint8_t> repetitive(header.heads);
  for (uint64_t row = 0; row < rows; ++row) {
    RowEntry entry;
    std::memcpy(&entry, image.data() + header.rows_offset + row * sizeof(RowEntry), sizeof(entry));
    // The first row of a head says what the others have to be.
    const uint64_t head = row / header.query_blocks, q = row % header.query_blocks;
    if (q == 0)
      repetitive[head] = grid.anchors && entry.visits & kRowIsPacked;
    if (repetitive[head] && q >= packedTiles(grid, header.tokens)) {
      if (entry.begin || entry.words || entry.visits)
        return error("row {}: is not empty, but head {} has {} packed rows", row, head,
                     packedTiles(grid, header.tokens));
      schedule.rowClass.push_back(kAbsentRow);
      continue;
    }
    auto [known, isNew] = classAt.emplace(std::pair(entry.begin, entry.words), classes.size());
    if (isNew) {
      std::vector<uint16_t> blocks;
      if (Status status = decodeRow(entry, row, blocks); !status)
        return status.takeError();
      if (entry.begin != nextWord || !classes.emplace(blocks, known->second).second)
        return error("row {}: words begin at {}, wanted {} (equal rows share words, in order of "
                     "first use)",
                     row, entry.begin, nextWord);
      nextWord += entry.words;
      schedule.classes.push_back(std::move(blocks));
    }
    const std::vector<uint16_t> &blocks = schedule.classes[known->second];
    unsigned flag =
        (startsWithTail(blocks, header.tokens, header.key_blocks) ? kRowStartsWithTail : 0) |
        (repetitive[head] ? kRowIsPacked : 0);
    if (entry.visits != (blocks.size() | flag))
      return error("row {}: visits is {:#06x}, but its words give {:#06x}", row, entry.visits,
                   blocks.size() | flag);
    if (repetitive[head] && q && schedule.rowClass.back() != known->second)
      return error("row {}: differs from the row before it, but head {} is repetitive", row, head);
    visits += blocks.size();
    schedule.rowClass.push_back(known->second);
  }
  if (std::find(repetitive.begin(), repetitive.end(), 1) != repetitive.end()) {
    schedule.repetitive = std::move(repetitive);
    schedule.grid = grid;
  } else if (grid != AnchorGrid{}) {
    return error("has a grid with {} anchors, but no repetitive head", grid.anchors);
  }
  if (nextWord != header.word_count)
    return error("rows use {} of {} words", nextWord, header.word_count);
  if (visits != header.visits)
    return error("visits is {}, but the rows have {}", header.visits, visits);
  return schedule;
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
  return ImageDecoder(image, name).decode();
}

uint32_t scheduleCapacityClass(uint64_t bytes) {
  uint64_t capacity = 4096;
  while (capacity < bytes && capacity < (1u << 30))
    capacity *= 4;
  return uint32_t(capacity);
}

} // namespace calibatt

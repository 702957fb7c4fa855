// Bitmaps to data images and back. An image is the one that its bitmaps give, so
// that reading one back is checked by making it again.
#include "runtime/format/ScheduleMasks.h"

#include "runtime/format/ScheduleImage.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <functional>

namespace calibatt {
namespace {

static_assert(sizeof(ScheduleHeader) == 64 && sizeof(RowEntry) == 8);

constexpr uint64_t alignSection(uint64_t bytes) { return (bytes + 15) / 16 * 16; }

/// Numbers the distinct rows in order of first use.
class RowClasses {
public:
  explicit RowClasses(uint64_t rows) : slots(std::bit_ceil(2 * rows + 1), kFree) {}

  /// The class of a row; the same as `count()` before the call where it is new.
  uint32_t classOf(std::span<const uint64_t> row) {
    uint64_t hash = 0;
    for (uint64_t word : row)
      hash = (std::rotl(hash, 27) ^ word) * 0x9E3779B97F4A7C15u;
    for (size_t slot = hash >> 20 & (slots.size() - 1);; slot = (slot + 1) & (slots.size() - 1)) {
      if (slots[slot] == kFree) {
        slots[slot] = count();
        first.push_back(row.data());
        return slots[slot];
      }
      if (std::equal(row.begin(), row.end(), first[slots[slot]]))
        return slots[slot];
    }
  }
  uint32_t count() const { return uint32_t(first.size()); }

private:
  static constexpr uint32_t kFree = UINT32_MAX;
  std::vector<uint32_t> slots;
  std::vector<const uint64_t *> first; ///< a row of each class
};

/// Appends the runs of a row, highest first; longer ones than a word can say are split.
void appendRuns(std::span<const uint64_t> row, std::vector<uint32_t> &words) {
  unsigned end = 0; // of the run that is open, exclusive; 0: none
  auto close = [&](unsigned begin) {
    for (; end - begin > kMaxRunBlocks; end -= kMaxRunBlocks)
      words.push_back(packRun((end - kMaxRunBlocks) * kBlock, kMaxRunBlocks));
    words.push_back(packRun(begin * kBlock, end - begin));
    end = 0;
  };
  for (size_t i = row.size(); i-- > 0;) {
    uint64_t word = row[i];
    unsigned bit = 64; // bits from here on are done
    while (true) {
      // What is left of the word, moved to its top.
      uint64_t rest = bit ? word << (64 - bit) : 0;
      if (end) {
        unsigned ones = std::min(unsigned(std::countl_one(rest)), bit);
        bit -= ones;
        if (bit == 0)
          break; // the run goes on in the word below
        close(unsigned(i) * 64 + bit);
      } else {
        if (rest == 0)
          break;
        bit -= unsigned(std::countl_zero(rest));
        end = unsigned(i) * 64 + bit;
      }
    }
  }
  if (end)
    close(0);
}

void appendBitmap(std::span<const uint64_t> row, uint32_t blocks, std::vector<uint32_t> &words) {
  for (uint32_t i = 0; i < (blocks + 31) / 32; ++i)
    words.push_back(uint32_t(row[i / 2] >> (i % 2 * 32)));
}

void put(std::vector<uint8_t> &image, uint64_t offset, const void *data, size_t bytes) {
  if (bytes)
    std::memcpy(image.data() + offset, data, bytes);
}

} // namespace

ScheduleMasks masksOf(const Schedule &schedule) {
  ScheduleMasks masks;
  masks.tokens = schedule.tokens;
  masks.heads = schedule.heads;
  masks.repetitive = schedule.repetitive;
  masks.grid = schedule.grid;
  masks.words.resize(masks.rows() * masks.rowWords());
  for (size_t row = 0; row < schedule.rowClass.size(); ++row)
    if (const uint32_t rowClass = schedule.rowClass[row]; rowClass != kAbsentRow)
      for (uint16_t block : schedule.classes[rowClass])
        masks.words[row * masks.rowWords() + block / 64] |= uint64_t(1) << block % 64;
  return masks;
}

Status checkMasks(const ScheduleMasks &masks, const std::string &name) {
  auto error = [&](const std::string &what) { return Error{name + ": " + what}; };
  if (masks.heads == 0 || masks.heads > kMaxHeads || masks.tokens == 0 ||
      masks.tokens > kMaxRows * kBlock)
    return error(fmt::format("has {} heads and {} tokens, wanted 1 to {} and 1 to {}", masks.heads,
                             masks.tokens, kMaxHeads, kMaxRows * kBlock));
  if (masks.words.size() != masks.rows() * masks.rowWords())
    return error(fmt::format("has {} words for {} rows of {}", masks.words.size(), masks.rows(),
                             masks.rowWords()));
  const auto &repetitive = masks.repetitive;
  if (repetitive.empty() ? masks.grid != AnchorGrid{}
                         : repetitive.size() != masks.heads ||
                               std::none_of(repetitive.begin(), repetitive.end(), std::identity()))
    return error("says of other heads than it has that they are repetitive");
  if (!repetitive.empty() && !isValid(masks.grid, masks.tokens))
    return error(fmt::format("{} anchors in a grid of {} x {} do not fit {} tokens",
                             masks.grid.anchors, masks.grid.height, masks.grid.width,
                             masks.tokens));
  const uint64_t beyond = masks.blocks() % 64 ? ~uint64_t(0) << masks.blocks() % 64 : 0;
  for (uint32_t head = 0; head < masks.heads; ++head)
    for (uint32_t q = 0; q < masks.blocks(); ++q) {
      const std::span<const uint64_t> row = masks.row(head, q);
      const bool empty = std::all_of(row.begin(), row.end(), [](uint64_t w) { return w == 0; });
      if (empty != (q >= masks.rowsOf(head)))
        return error(fmt::format("head {}: row {} is {}", head, q,
                                 empty ? "empty" : "behind the packed rows, but not empty"));
      if (row.back() & beyond)
        return error(fmt::format("head {}: row {} has blocks beyond the last", head, q));
      if (masks.isRepetitive(head) && q && !empty && !std::ranges::equal(row, masks.row(head, 0)))
        return error(
            fmt::format("head {}: is repetitive, but row {} differs from the first", head, q));
    }
  return {};
}

std::vector<uint8_t> buildScheduleImage(const ScheduleMasks &masks, Form form) {
  const uint32_t blocks = masks.blocks();
  std::vector<RowEntry> entries(masks.rows()), ofClass;
  std::vector<uint32_t> words;
  RowClasses classes(masks.rows());
  uint64_t visits = 0;
  for (uint32_t head = 0; head < masks.heads; ++head)
    for (uint32_t q = 0; q < masks.rowsOf(head); ++q) {
      std::span<const uint64_t> row = masks.row(head, q);
      const uint32_t rowClass = classes.classOf(row);
      if (rowClass == ofClass.size()) {
        const size_t begin = words.size();
        if (form == Form::Runs)
          appendRuns(row, words);
        else
          appendBitmap(row, blocks, words);
        const bool tail =
            masks.tokens % kBlock != 0 && row[(blocks - 1) / 64] >> ((blocks - 1) % 64) & 1;
        ofClass.push_back({unsigned(begin), static_cast<unsigned short>(words.size() - begin),
                           static_cast<unsigned short>(unsigned(countBits(row)) |
                                                       (tail ? kRowStartsWithTail : 0))});
      }
      RowEntry &entry = entries[size_t(head) * blocks + q];
      entry = ofClass[rowClass];
      visits += entry.visits & kRowVisitsMask;
      if (masks.isRepetitive(head))
        entry.visits |= kRowIsPacked;
    }
  ScheduleHeader header{};
  header.magic = kScheduleMagic;
  header.version = kScheduleVersion;
  header.form = unsigned(form);
  header.heads = masks.heads;
  header.query_blocks = header.key_blocks = blocks;
  header.tokens = masks.tokens;
  header.rows_offset = sizeof(ScheduleHeader);
  header.words_offset =
      unsigned(alignSection(sizeof(ScheduleHeader) + entries.size() * sizeof(RowEntry)));
  header.word_count = unsigned(words.size());
  header.visits = unsigned(visits);
  header.grid_height = masks.grid.height;
  header.grid_width = masks.grid.width;
  header.anchors = masks.grid.anchors;
  std::vector<uint8_t> image(alignSection(header.words_offset + 4 * uint64_t(words.size())));
  put(image, 0, &header, sizeof(header));
  put(image, header.rows_offset, entries.data(), entries.size() * sizeof(RowEntry));
  put(image, header.words_offset, words.data(), words.size() * 4);
  return image;
}

namespace {

/// What has to hold before rows are read; everything else shows when the image is made again.
bool isReadable(const ScheduleHeader &h, size_t imageBytes) {
  if (h.magic != kScheduleMagic || h.version != kScheduleVersion || h.heads == 0 ||
      h.heads > kMaxHeads || h.tokens == 0 || h.tokens > kMaxRows * kBlock)
    return false;
  const uint64_t blocks = (h.tokens + kBlock - 1) / kBlock, rows = h.heads * blocks;
  const AnchorGrid grid{h.grid_height, h.grid_width, h.anchors};
  return (h.form == unsigned(Form::Runs) || h.form == unsigned(Form::Table)) &&
         h.query_blocks == blocks && h.rows_offset == sizeof(ScheduleHeader) &&
         h.words_offset == alignSection(sizeof(ScheduleHeader) + rows * sizeof(RowEntry)) &&
         imageBytes == alignSection(h.words_offset + 4 * uint64_t(h.word_count)) &&
         (grid == AnchorGrid{} || isValid(grid, h.tokens));
}

/// Sets the blocks of a row that lie inside it.
void readRow(const uint8_t *words, const RowEntry &entry, Form form, uint32_t blocks,
             std::span<uint64_t> row) {
  for (unsigned i = 0; i < entry.words; ++i) {
    uint32_t word;
    std::memcpy(&word, words + 4 * (size_t(entry.begin) + i), 4);
    if (form == Form::Table) {
      if (i / 2 < row.size())
        row[i / 2] |= uint64_t(word) << (i % 2 * 32);
      continue;
    }
    const unsigned first = runTokenStart(word) / kBlock;
    const unsigned end = std::min(first + runBlocks(word), blocks);
    for (unsigned block = first; block < end;) {
      const unsigned count = std::min(end - block, 64 - block % 64);
      row[block / 64] |= (count == 64 ? ~uint64_t(0) : (uint64_t(1) << count) - 1) << block % 64;
      block += count;
    }
  }
  if (blocks % 64) // what lies behind the last block does not come back
    row.back() &= (uint64_t(1) << blocks % 64) - 1;
}

} // namespace

Result<ScheduleMasks> masksOfImage(std::span<const uint8_t> image, const std::string &name) {
  // The strict decoder knows what to call the fault.
  auto refuse = [&]() -> Error {
    Result<Schedule> schedule = decodeScheduleImage(image, name);
    return schedule ? Error{name + ": is not the image of its rows"} : schedule.takeError();
  };
  ScheduleHeader header;
  if (image.size() < sizeof(header))
    return refuse();
  std::memcpy(&header, image.data(), sizeof(header));
  if (!isReadable(header, image.size()))
    return refuse();
  ScheduleMasks masks;
  masks.tokens = header.tokens;
  masks.heads = header.heads;
  masks.grid = {header.grid_height, header.grid_width, header.anchors};
  masks.words.resize(masks.rows() * masks.rowWords());
  const uint32_t blocks = masks.blocks();
  const uint8_t *words = image.data() + header.words_offset;
  for (uint32_t head = 0; head < masks.heads; ++head)
    for (uint32_t q = 0; q < blocks; ++q) {
      RowEntry entry;
      std::memcpy(&entry,
                  image.data() + header.rows_offset +
                      (size_t(head) * blocks + q) * sizeof(RowEntry),
                  sizeof(entry));
      if (entry.begin > header.word_count || entry.words > header.word_count - entry.begin)
        return refuse();
      if (q == 0 && entry.visits & kRowIsPacked && masks.grid.anchors) {
        masks.repetitive.resize(masks.heads);
        masks.repetitive[head] = 1;
      }
      if (q < masks.rowsOf(head))
        readRow(words, entry, Form(header.form), blocks, masks.row(head, q));
    }
  if (!checkMasks(masks, name))
    return refuse();
  std::vector<uint8_t> again = buildScheduleImage(masks, Form(header.form));
  if (again.size() != image.size() || std::memcmp(again.data(), image.data(), image.size()) != 0)
    return refuse();
  return masks;
}

} // namespace calibatt

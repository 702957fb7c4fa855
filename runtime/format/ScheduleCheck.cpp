// What a data image has to be before a device reads it: a kernel trusts every
// offset, count and flag in it. A session checks each image that it uploads, so
// this is one pass over the bytes and builds no lists.
#include "runtime/format/ScheduleImage.h"

#include "runtime/format/ScheduleMasks.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>

namespace calibatt {
namespace {

class ImageChecker {
public:
  ImageChecker(std::span<const uint8_t> image, const std::string &name)
      : image(image), name(name) {}
  Result<ScheduleHeader> check();

private:
  template <typename... Args>
  Error error(fmt::format_string<Args...> format, Args &&...args) const {
    return Error{name + ": " + fmt::format(format, std::forward<Args>(args)...)};
  }
  Status checkHeader();
  Status checkSize() const;
  Status checkRow(uint64_t row);
  Status checkWords(const RowEntry &entry, uint64_t row, unsigned &visits) const;
  Status checkRuns(const RowEntry &entry, uint64_t row, unsigned &visits) const;
  Status checkBitmap(const RowEntry &entry, uint64_t row, unsigned &visits) const;

  uint64_t rows() const { return uint64_t(header.heads) * header.query_blocks; }
  uint32_t word(uint64_t index) const {
    uint32_t value;
    std::memcpy(&value, image.data() + header.words_offset + 4 * index, 4);
    return value;
  }
  bool isZero(uint64_t begin, uint64_t end) const {
    for (; begin < end; ++begin)
      if (image[begin])
        return false;
    return true;
  }

  std::span<const uint8_t> image;
  const std::string &name;
  ScheduleHeader header{};
  AnchorGrid grid{};
  /// The rows with words of their own, by the word they begin at; `visits` without kRowIsPacked.
  std::vector<RowEntry> distinct;
  uint64_t nextWord = 0; ///< where the words of the next new row begin
  uint64_t visits = 0;
  RowEntry firstOfHead{}; ///< of the head being read
  bool anyRepetitive = false;
};

constexpr uint64_t aligned(uint64_t bytes) { return (bytes + 15) / 16 * 16; }

Status ImageChecker::checkHeader() {
  if (image.size() < sizeof header)
    return error("has {} bytes, too few for the {}-byte header", image.size(), sizeof header);
  std::memcpy(&header, image.data(), sizeof header);
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
  const unsigned blocks = (h.tokens + kBlock - 1) / kBlock;
  if (h.query_blocks != blocks || h.key_blocks != blocks)
    return error("has {} query and {} key blocks, but {} tokens have {}", h.query_blocks,
                 h.key_blocks, h.tokens, blocks);
  grid = {h.grid_height, h.grid_width, h.anchors};
  if (grid != AnchorGrid{} && !isValid(grid, h.tokens))
    return error("{} anchors in a grid of {} x {} do not fit {} tokens", h.anchors, h.grid_height,
                 h.grid_width, h.tokens);
  for (unsigned reserved : h.reserved)
    if (reserved)
      return error("a reserved header field is {}, wanted 0", reserved);
  return checkSize();
}

Status ImageChecker::checkSize() const {
  if (header.rows_offset != sizeof header)
    return error("rows_offset is {}, wanted {}", header.rows_offset, sizeof header);
  const uint64_t rowsEnd = sizeof header + rows() * sizeof(RowEntry);
  if (header.words_offset != aligned(rowsEnd))
    return error("words_offset is {}, wanted {}", header.words_offset, aligned(rowsEnd));
  const uint64_t wordsEnd = header.words_offset + 4 * uint64_t(header.word_count);
  if (image.size() != aligned(wordsEnd))
    return error("has {} bytes, but {} rows and {} words need {}", image.size(), rows(),
                 header.word_count, aligned(wordsEnd));
  if (!isZero(rowsEnd, header.words_offset) || !isZero(wordsEnd, image.size()))
    return error("padding is not zero");
  return {};
}

/// `visits` becomes the row's count with kRowStartsWithTail where it does.
Status ImageChecker::checkRuns(const RowEntry &entry, uint64_t row, unsigned &visits) const {
  unsigned previous = header.key_blocks; // first block of the run before, exclusive bound
  unsigned before = 0;                   // the run before
  bool tail = false;
  for (unsigned i = 0; i < entry.words; ++i) {
    const unsigned run = word(uint64_t(entry.begin) + i);
    const unsigned token = runTokenStart(run), count = runBlocks(run), first = token / kBlock;
    if (token % kBlock)
      return error("row {}, run {}: begins at token {}, not a multiple of {}", row, i, token,
                   kBlock);
    if (count == 0)
      return error("row {}, run {}: is empty", row, i);
    if (first + count > previous)
      return error("row {}, run {}: ends at block {}, wanted at most {} (runs go down and do not "
                   "overlap)",
                   row, i, first + count, previous);
    // Two runs that touch are one run, unless a word cannot say how long it is.
    if (i && first + count == previous && runBlocks(before) != kMaxRunBlocks)
      return error("row {}, run {}: touches the run before it", row, i);
    tail |= first + count == header.key_blocks;
    visits += count;
    previous = first;
    before = run;
  }
  if (tail && header.tokens % kBlock)
    visits |= kRowStartsWithTail;
  return {};
}

/// The same of a bitmap.
Status ImageChecker::checkBitmap(const RowEntry &entry, uint64_t row, unsigned &visits) const {
  const unsigned words = (header.key_blocks + 31) / 32;
  if (entry.words != words)
    return error("row {}: bitmap has {} words, but {} key blocks need {}", row, entry.words,
                 header.key_blocks, words);
  for (unsigned i = 0; i < words; ++i)
    visits += countBits(word(uint64_t(entry.begin) + i));
  const unsigned top = word(uint64_t(entry.begin) + words - 1);
  const unsigned last = (words - 1) * 32 + 31 - unsigned(std::countl_zero(top));
  if (top && last >= header.key_blocks)
    return error("row {}: bitmap has block {}, but there are {}", row, last, header.key_blocks);
  if (top && last + 1 == header.key_blocks && header.tokens % kBlock)
    visits |= kRowStartsWithTail;
  return {};
}

Status ImageChecker::checkWords(const RowEntry &entry, uint64_t row, unsigned &visits) const {
  if (uint64_t(entry.begin) + entry.words > header.word_count)
    return error("row {}: words end at {}, but there are {}", row,
                 uint64_t(entry.begin) + entry.words, header.word_count);
  if (entry.words == 0)
    return error("row {}: has no key blocks", row);
  if (entry.begin < nextWord) {
    const auto shared =
        std::lower_bound(distinct.begin(), distinct.end(), entry.begin,
                         [](const RowEntry &row, unsigned begin) { return row.begin < begin; });
    if (shared != distinct.end() && shared->begin == entry.begin && shared->words == entry.words) {
      visits = shared->visits;
      return {};
    }
  }
  Status status = header.form == unsigned(Form::Runs) ? checkRuns(entry, row, visits)
                                                      : checkBitmap(entry, row, visits);
  if (!status)
    return status;
  if (visits == 0)
    return error("row {}: has no key blocks", row);
  if (entry.begin != nextWord)
    return error("row {}: words begin at {}, wanted {} (equal rows share words, in order of first "
                 "use)",
                 row, entry.begin, nextWord);
  return {};
}

Status ImageChecker::checkRow(uint64_t row) {
  RowEntry entry;
  std::memcpy(&entry, image.data() + header.rows_offset + row * sizeof entry, sizeof entry);
  // The first row of a head says what the others have to be.
  const uint64_t head = row / header.query_blocks, q = row % header.query_blocks;
  if (q == 0)
    firstOfHead = entry;
  const bool repetitive = grid.anchors && firstOfHead.visits & kRowIsPacked;
  if (repetitive && q >= packedTiles(grid, header.tokens)) {
    if (entry.begin || entry.words || entry.visits)
      return error("row {}: is not empty, but head {} has {} packed rows", row, head,
                   packedTiles(grid, header.tokens));
    return {};
  }
  unsigned wanted = 0;
  if (Status status = checkWords(entry, row, wanted); !status)
    return status;
  if (entry.begin == nextWord) {
    distinct.push_back({entry.begin, entry.words, static_cast<unsigned short>(wanted)});
    nextWord += entry.words;
  }
  visits += wanted & kRowVisitsMask;
  wanted |= repetitive ? kRowIsPacked : 0;
  if (entry.visits != wanted)
    return error("row {}: visits is {:#06x}, but its words give {:#06x}", row, entry.visits,
                 wanted);
  if (repetitive && entry.begin != firstOfHead.begin)
    return error("row {}: differs from the row before it, but head {} is repetitive", row, head);
  anyRepetitive |= repetitive;
  return {};
}

Result<ScheduleHeader> ImageChecker::check() {
  if (Status status = checkHeader(); !status)
    return status.takeError();
  for (uint64_t row = 0; row < rows(); ++row)
    if (Status status = checkRow(row); !status)
      return status.takeError();
  if (grid != AnchorGrid{} && !anyRepetitive)
    return error("has a grid with {} anchors, but no repetitive head", grid.anchors);
  if (nextWord != header.word_count)
    return error("rows use {} of {} words", nextWord, header.word_count);
  if (visits != header.visits)
    return error("visits is {}, but the rows have {}", header.visits, visits);
  return header;
}

} // namespace

Result<ScheduleHeader> checkScheduleImage(std::span<const uint8_t> image, const std::string &name) {
  return ImageChecker(image, name).check();
}

} // namespace calibatt

// Reads the schedule of an unrolled kernel back from its CUDA text; the grammar
// is in codegen/README.md.
#include "runtime/format/ScheduleImage.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <string_view>

namespace calibatt {
namespace {

constexpr std::string_view kSpecLine = "constexpr calibatt::AttentionSpec kSpec{";
constexpr std::string_view kHeadsLine = "constexpr unsigned kHeads = ";
constexpr std::string_view kTableLine = "__device__ const unsigned short kRowClass[] = {";
constexpr std::string_view kProducer = " produce_";
constexpr std::string_view kProducerState = "(calibatt::";
constexpr std::string_view kVisit = "p.visit<";
constexpr std::string_view kRun = "p.run<";
constexpr std::string_view kEnd = "return p.end<";

/// Reads numbers and literal text off the front of a line.
class Cursor {
public:
  explicit Cursor(std::string_view text) : text(text) {}

  bool accept(std::string_view literal) {
    bool matches = text.substr(0, literal.size()) == literal;
    if (matches)
      text.remove_prefix(literal.size());
    return matches;
  }
  bool skipPast(std::string_view literal) {
    size_t found = text.find(literal);
    if (found == text.npos)
      return false;
    text.remove_prefix(found + literal.size());
    return true;
  }
  void skipSpaces() { text.remove_prefix(std::min(text.find_first_not_of(" \t\r"), text.size())); }
  std::optional<uint32_t> number() {
    uint32_t value = 0;
    auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (problem != std::errc())
      return std::nullopt;
    text.remove_prefix(size_t(end - text.data()));
    return value;
  }
  /// As std::format's {:a} with 0x before it.
  std::optional<float> hexFloat() {
    float value = 0;
    if (!accept("0x"))
      return std::nullopt;
    auto [end, problem] =
        std::from_chars(text.data(), text.data() + text.size(), value, std::chars_format::hex);
    if (problem != std::errc())
      return std::nullopt;
    text.remove_prefix(size_t(end - text.data()));
    return value;
  }
  bool empty() const { return text.empty(); }

private:
  std::string_view text;
};

/// The fields of a kSpec line from the grid on; zero where they are missing.
AnchorGrid readGrid(Cursor line) {
  AnchorGrid grid;
  if (line.skipPast(".grid_height = "))
    grid.height = line.number().value_or(0);
  if (line.skipPast(".grid_width = "))
    grid.width = line.number().value_or(0);
  if (line.skipPast(".anchors = "))
    grid.anchors = line.number().value_or(0);
  return grid;
}

class EmittedParser {
public:
  explicit EmittedParser(const std::string &name) : name(name) {}

  Status parse(std::string_view text);
  Result<Schedule> finish();

private:
  enum class Place { Outside, RowTable, Producer };

  template <typename... Args>
  Error error(fmt::format_string<Args...> format, Args &&...args) const {
    return Error{fmt::format("{}: CUDA text line {}: ", name, lineNumber) +
                 fmt::format(format, std::forward<Args>(args)...)};
  }
  Status parseLine(std::string_view line);
  Status parseOutside(Cursor line);
  Status parseRowClasses(Cursor line);
  Status parseProducer(Cursor line);
  Status parseVisit(Cursor line);
  Status parseRun(Cursor line);
  Status parseEnd(Cursor line);
  Status append(uint32_t index, uint32_t first, uint32_t count);
  Status readHeads();

  const std::string &name;
  size_t lineNumber = 0;
  Place place = Place::Outside;
  std::optional<uint32_t> tokens, heads;
  AnchorGrid grid;
  Schedule schedule;
  bool hasTable = false;
  bool hasRuns = false, hasEnded = false; ///< of the row class being read
};

Status EmittedParser::parse(std::string_view text) {
  while (!text.empty()) {
    size_t end = std::min(text.find('\n'), text.size());
    ++lineNumber;
    if (Status status = parseLine(text.substr(0, end)); !status)
      return status;
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  if (place != Place::Outside)
    return error("the text ends inside {}", place == Place::RowTable ? "kRowClass" : "a producer");
  return {};
}

Status EmittedParser::parseLine(std::string_view line) {
  line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
  switch (place) {
  case Place::RowTable:
    if (line.substr(0, 2) == "};") {
      place = Place::Outside;
      return {};
    }
    return parseRowClasses(Cursor(line));
  case Place::Producer:
    if (line == "}") {
      if (hasRuns && !hasEnded)
        return error("row class {} has runs and no end", schedule.classes.size() - 1);
      place = Place::Outside;
      return {};
    }
    return parseProducer(Cursor(line));
  case Place::Outside:
    break;
  }
  return parseOutside(Cursor(line));
}

Status EmittedParser::parseOutside(Cursor line) {
  if (line.accept(kSpecLine)) {
    if (tokens)
      return error("kSpec appears twice");
    if (line.skipPast(".tokens = "))
      tokens = line.number();
    if (!tokens)
      return error("kSpec does not say .tokens");
    grid = readGrid(line);
    return {};
  }
  if (line.accept(kHeadsLine)) {
    if (heads)
      return error("kHeads appears twice");
    heads = line.number();
    if (!heads || !line.accept(";"))
      return error("kHeads is not a number");
    return {};
  }
  if (line.accept(kTableLine)) {
    if (hasTable)
      return error("kRowClass appears twice");
    hasTable = true;
    place = Place::RowTable;
    return {};
  }
  if (line.skipPast(kProducer)) {
    std::optional<uint32_t> number = line.number();
    if (!number || !line.accept(kProducerState))
      return {};
    if (*number != schedule.classes.size())
      return error("producer of row class {}, wanted {}", *number, schedule.classes.size());
    if (schedule.classes.size() >= kMaxEmittedClasses)
      return error("has more than {} row classes", kMaxEmittedClasses);
    schedule.classes.emplace_back();
    place = Place::Producer;
    hasRuns = hasEnded = false;
  }
  return {};
}

Status EmittedParser::parseRowClasses(Cursor line) {
  for (line.skipSpaces(); !line.empty(); line.skipSpaces()) {
    std::optional<uint32_t> rowClass = line.number();
    if (!rowClass)
      return error("kRowClass has something that is not a number");
    if (schedule.rowClass.size() >= size_t(kMaxRows) * kMaxHeads)
      return error("kRowClass has more than {} rows", size_t(kMaxRows) * kMaxHeads);
    schedule.rowClass.push_back(*rowClass);
    line.skipSpaces();
    if (!line.empty() && !line.accept(","))
      return error("kRowClass has a number that no comma follows");
  }
  return {};
}

Status EmittedParser::parseProducer(Cursor line) {
  if (line.accept(kVisit))
    return parseVisit(line);
  if (line.accept(kRun))
    return parseRun(line);
  if (line.accept(kEnd))
    return parseEnd(line);
  return {};
}

Status EmittedParser::parseVisit(Cursor line) {
  std::optional<uint32_t> index = line.number(), block;
  if (index && line.accept(", "))
    block = line.number();
  if (!block || !line.accept(">();"))
    return error("a visit is not p.visit<number, block>();");
  return append(*index, *block, 1);
}

Status EmittedParser::parseRun(Cursor line) {
  std::optional<uint32_t> index = line.number(), first, count;
  if (index && line.accept(", "))
    first = line.number();
  if (first && line.accept(", "))
    count = line.number();
  if (!count || !line.accept(">();"))
    return error("a run is not p.run<number, block, count>();");
  if (*count == 0 || *count > kMaxRunBlocks)
    return error("a run of {} blocks, wanted 1 to {}", *count, kMaxRunBlocks);
  hasRuns = true;
  return append(*index, *first, *count);
}

Status EmittedParser::parseEnd(Cursor line) {
  std::optional<uint32_t> visits = line.number();
  if (!visits || !line.accept(">();"))
    return error("an end is not return p.end<visits>();");
  if (hasEnded || *visits != schedule.classes.back().size())
    return error("an end after {} visits, wanted one end after {}", *visits,
                 schedule.classes.back().size());
  hasEnded = true;
  return {};
}

/// `count` (1 to kMaxRunBlocks) key blocks from `first` on, visited from the last
/// to the first, as visit number `index` and following.
Status EmittedParser::append(uint32_t index, uint32_t first, uint32_t count) {
  std::vector<uint16_t> &row = schedule.classes.back();
  const uint32_t before = row.empty() ? kMaxRows : row.back();
  if (hasEnded)
    return error("visit number {} after the end of the row class", index);
  if (index != row.size())
    return error("visit number {}, wanted {}", index, row.size());
  if (first >= before || count > before - first)
    return error("visit of block {} after block {}, wanted going down", uint64_t(first) + count - 1,
                 before);
  for (uint32_t i = count; i-- > 0;)
    row.push_back(uint16_t(first + i));
  return {};
}

/// The flags of kRowClass: the first row of a head says whether it is repetitive.
Status EmittedParser::readHeads() {
  std::vector<uint8_t> repetitive(schedule.heads);
  for (size_t row = 0; row < schedule.rowClass.size(); ++row) {
    const size_t head = row / schedule.queryBlocks, q = row % schedule.queryBlocks;
    uint32_t &rowClass = schedule.rowClass[row];
    if (q == 0)
      repetitive[head] = grid.anchors && rowClass & kEmittedPackedRow;
    if (repetitive[head] && q >= packedTiles(grid, schedule.tokens)) {
      if (rowClass != kEmittedAbsentRow)
        return Error{fmt::format("row {} has class {}, but head {} has {} packed rows", row,
                                 rowClass, head, packedTiles(grid, schedule.tokens))};
      rowClass = kAbsentRow;
      continue;
    }
    if (repetitive[head])
      rowClass ^= kEmittedPackedRow;
    if (rowClass >= schedule.classes.size())
      return Error{fmt::format("row {} has class {}, but there are {}", row, rowClass,
                               schedule.classes.size())};
    if (repetitive[head] && q && rowClass != schedule.rowClass[row - 1])
      return Error{fmt::format("row {} differs from the row before it, but head {} is repetitive",
                               row, head)};
  }
  if (grid.anchors) {
    if (std::find(repetitive.begin(), repetitive.end(), 1) == repetitive.end())
      return Error{fmt::format("{} anchors, but no repetitive head", grid.anchors)};
    schedule.repetitive = std::move(repetitive);
    schedule.grid = grid;
  }
  return {};
}

Result<Schedule> EmittedParser::finish() {
  auto failure = [&](const std::string &what) { return Error{name + ": CUDA text: " + what}; };
  if (!tokens || !heads || !hasTable)
    return failure(fmt::format("{} is missing, so it is no unrolled kernel", !tokens ? "kSpec"
                                                                             : !heads
                                                                                 ? "kHeads"
                                                                                 : "kRowClass"));
  if (*tokens == 0 || *tokens > kMaxRows * kBlock)
    return failure(fmt::format("tokens is {}, wanted 1 to {}", *tokens, kMaxRows * kBlock));
  if (*heads == 0 || *heads > kMaxHeads)
    return failure(fmt::format("kHeads is {}, wanted 1 to {}", *heads, kMaxHeads));
  schedule.tokens = *tokens;
  schedule.heads = *heads;
  schedule.queryBlocks = schedule.keyBlocks = (*tokens + kBlock - 1) / kBlock;
  uint64_t rows = uint64_t(*heads) * schedule.queryBlocks;
  if (schedule.rowClass.size() != rows)
    return failure(fmt::format("kRowClass has {} rows, but {} heads of {} blocks have {}",
                               schedule.rowClass.size(), *heads, schedule.queryBlocks, rows));
  for (size_t i = 0; i < schedule.classes.size(); ++i) {
    const std::vector<uint16_t> &row = schedule.classes[i];
    if (row.empty())
      return failure(fmt::format("row class {} visits nothing", i));
    if (row.front() >= schedule.keyBlocks)
      return failure(fmt::format("row class {} visits block {}, but there are {}", i, row.front(),
                                 schedule.keyBlocks));
  }
  if (grid != AnchorGrid{} && !isValid(grid, *tokens))
    return failure(fmt::format("{} anchors in a grid of {} x {} do not fit {} tokens", grid.anchors,
                               grid.height, grid.width, *tokens));
  if (Status status = readHeads(); !status)
    return failure(status.message());
  return canonicalSchedule(schedule);
}

} // namespace

Result<Schedule> decodeEmittedSchedule(const std::string &cuda, const std::string &name) {
  EmittedParser parser(name);
  if (Status status = parser.parse(cuda); !status)
    return status.takeError();
  return parser.finish();
}

/// Empty where there is none.
static std::string_view specLine(std::string_view cuda) {
  const size_t begin = cuda.find(kSpecLine);
  if (begin == cuda.npos)
    return {};
  return cuda.substr(begin, cuda.find('\n', begin) - begin);
}

std::optional<EmittedSpec> emittedSpec(std::string_view cuda) {
  Cursor line(specLine(cuda));
  auto number = [&](std::string_view name) {
    return line.skipPast(name) ? line.number() : std::nullopt;
  };
  const std::optional<uint32_t> headDim = number(".head_dim = "), tokens = number(".tokens = ");
  const std::optional<float> scale = line.skipPast(".scale = ") ? line.hexFloat() : std::nullopt;
  if (!headDim || !tokens || !scale)
    return std::nullopt;
  return EmittedSpec{*headDim, *tokens, *scale, readGrid(line)};
}

AnchorGrid emittedAnchorGrid(std::string_view cuda) { return readGrid(Cursor(specLine(cuda))); }

} // namespace calibatt

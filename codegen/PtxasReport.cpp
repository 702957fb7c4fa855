#include "codegen/PtxasReport.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <string_view>

namespace calibatt {

/// The number before `unit` ("168" of "Used 168 registers, ..."), if it is in the line.
static std::optional<uint32_t> numberBefore(std::string_view line, std::string_view unit) {
  size_t end = line.find(unit);
  if (end == std::string_view::npos)
    return std::nullopt;
  while (end > 0 && line[end - 1] == ' ')
    --end;
  size_t begin = end;
  while (begin > 0 && line[begin - 1] >= '0' && line[begin - 1] <= '9')
    --begin;
  uint32_t value = 0;
  auto [last, error] = std::from_chars(line.data() + begin, line.data() + end, value);
  if (error != std::errc() || last != line.data() + end)
    return std::nullopt;
  return value;
}

/// The text between quotes after `prefix`, if the line has it.
static std::optional<std::string_view> quotedAfter(std::string_view line, std::string_view prefix) {
  size_t begin = line.find(prefix);
  if (begin == std::string_view::npos)
    return std::nullopt;
  begin += prefix.size();
  size_t end = line.find('\'', begin);
  return line.substr(begin, end == std::string_view::npos ? end : end - begin);
}

/// A C75xx message that costs performance.
static bool isSerialised(std::string_view line) {
  for (size_t at = line.find("C75"); at != std::string_view::npos; at = line.find("C75", at + 1)) {
    std::string_view code = line.substr(at, 5);
    auto digit = [](char c) { return c >= '0' && c <= '9'; };
    bool starts = at == 0 || line[at - 1] == '(' || line[at - 1] == ' ';
    if (starts && code.size() == 5 && digit(code[3]) && digit(code[4]) && code != "C7519")
      return true;
  }
  return false;
}

Result<PtxasReport> parsePtxasLog(const std::string &log, const std::string &symbol) {
  PtxasReport report;
  bool inEntry = false, found = false;
  for (size_t begin = 0; begin < log.size();) {
    size_t end = std::min(log.find('\n', begin), log.size());
    std::string_view line(log.data() + begin, end - begin);
    begin = end + 1;

    if (isSerialised(line))
      report.serialised.emplace_back(line);
    else if (auto entry = quotedAfter(line, "Compiling entry function '"))
      inEntry = *entry == symbol;
    else if (auto stack = numberBefore(line, "bytes stack frame")) {
      report.stackBytes = std::max(report.stackBytes, *stack);
      report.spillStores += numberBefore(line, "bytes spill stores").value_or(0);
      report.spillLoads += numberBefore(line, "bytes spill loads").value_or(0);
    } else if (inEntry && line.find("Used ") != std::string_view::npos) {
      if (auto registers = numberBefore(line, "registers")) {
        report.registers = *registers;
        report.staticSmem = numberBefore(line, "bytes smem").value_or(0);
        found = true;
        inEntry = false;
      }
    }
  }
  // Serialised kernels are reported as such even where ptxas stopped there.
  if (!found && report.serialised.empty())
    return Error{symbol + ": the compiler's log has no register count for it"};
  return report;
}

} // namespace calibatt

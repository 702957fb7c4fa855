// Column layout and number formats of the inspector's text.
#include "runtime/inspect/TextTable.h"

#include <algorithm>
#include <fmt/format.h>
#include <utility>

namespace calibatt {

std::string TextStyle::wrap(const char *code, std::string_view text) const {
  return colour ? fmt::format("\x1b[{}m{}\x1b[0m", code, text) : std::string(text);
}

std::string percentage(double fraction) { return fmt::format("{:.1f} %", 100 * fraction); }

std::string duration(double seconds) {
  if (seconds < 1e-3)
    return fmt::format("{:.1f} us", seconds * 1e6);
  if (seconds < 1)
    return fmt::format("{:.2f} ms", seconds * 1e3);
  return fmt::format("{:.2f} s", seconds);
}

/// Columns a text takes on a terminal: its code points.
static size_t displayWidth(std::string_view text) {
  return size_t(
      std::count_if(text.begin(), text.end(), [](char c) { return (uint8_t(c) & 0xC0) != 0x80; }));
}

TextTable::TextTable(std::vector<std::string> names) : titles(std::move(names)) {
  for (std::string &title : titles) {
    alignRight.push_back(title.starts_with('>'));
    if (alignRight.back())
      title.erase(0, 1);
  }
}

void TextTable::addRow(std::vector<std::string> cells) {
  cells.resize(titles.size());
  rows.push_back({std::move(cells)});
}

void TextTable::markLastRow() { rows.back().marked = true; }

std::string TextTable::text(const TextStyle &style, unsigned indent) const {
  std::vector<size_t> widths;
  for (size_t column = 0; column < titles.size(); ++column) {
    size_t width = displayWidth(titles[column]);
    for (const Row &row : rows)
      width = std::max(width, displayWidth(row.cells[column]));
    widths.push_back(width);
  }
  auto line = [&](const std::vector<std::string> &cells) {
    std::string result;
    for (size_t column = 0; column < cells.size(); ++column) {
      std::string fill(widths[column] - displayWidth(cells[column]), ' ');
      if (column)
        result += "  ";
      result += alignRight[column] ? fill + cells[column] : cells[column] + fill;
    }
    result.erase(result.find_last_not_of(' ') + 1);
    return result;
  };
  std::string margin(indent, ' ');
  std::string result = margin + style.bold(line(titles)) + "\n";
  for (const Row &row : rows)
    result += margin + (row.marked ? style.bad(line(row.cells)) : line(row.cells)) + "\n";
  return result;
}

void TextFields::add(std::string name, std::string value) {
  fields.emplace_back(std::move(name), std::move(value));
}

std::string TextFields::text(const TextStyle &style, unsigned indent) const {
  size_t width = 0;
  for (const auto &[name, value] : fields)
    width = std::max(width, displayWidth(name));
  std::string result;
  for (const auto &[name, value] : fields)
    result += std::string(indent, ' ') + style.dim(name) +
              std::string(width - displayWidth(name) + 2, ' ') + value + "\n";
  return result;
}

} // namespace calibatt

// Text for people: aligned columns, readable quantities, colour where wanted.
#pragma once

#include "runtime/format/Quantity.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace calibatt {

/// Marks text for a terminal; without colour every call returns its text unchanged.
struct TextStyle {
  bool colour = false;

  std::string bold(std::string_view text) const { return wrap("1", text); }
  std::string dim(std::string_view text) const { return wrap("2", text); }
  std::string good(std::string_view text) const { return wrap("32", text); }
  std::string bad(std::string_view text) const { return wrap("31;1", text); }

private:
  std::string wrap(const char *code, std::string_view text) const;
};

/// "37.5 %"; of a fraction 0..1.
std::string percentage(double fraction);
/// "1.2 us", "3.4 ms", "5.6 s".
std::string duration(double seconds);

/// Rows of cells printed in columns as wide as their widest cell. A column
/// whose title begins with '>' is right-aligned (the '>' is not printed).
class TextTable {
public:
  explicit TextTable(std::vector<std::string> titles);

  /// One cell a column.
  void addRow(std::vector<std::string> cells);
  /// The last row added is printed as an error is.
  void markLastRow();
  /// Title line and rows, each line ended and indented by `indent` spaces.
  std::string text(const TextStyle &style, unsigned indent = 2) const;

private:
  struct Row {
    std::vector<std::string> cells;
    bool marked = false;
  };
  std::vector<std::string> titles;
  std::vector<bool> alignRight;
  std::vector<Row> rows;
};

/// "name   value" lines with aligned values.
class TextFields {
public:
  void add(std::string name, std::string value);
  std::string text(const TextStyle &style, unsigned indent = 2) const;

private:
  std::vector<std::pair<std::string, std::string>> fields;
};

} // namespace calibatt

// Small charts on a canvas: bars, lines, grids of cells. No more than a report needs.
#pragma once

#include "runtime/inspect/mask/Canvas.h"

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace calibatt {

/// Where a chart is drawn; numbers and names of its axes are outside of it.
struct ChartArea {
  int64_t x = 0, y = 0, width = 0, height = 0;
};

/// A vertical axis from `low` (bottom) to `high` (top).
struct ValueAxis {
  double low = 0, high = 1;
  /// Of the numbers on it.
  std::function<std::string(double value)> label;

  double share(double value) const { return (value - low) / (high - low); }
};

/// An axis whose ends are round numbers at or beyond the ends of the values, with a
/// span of at least `least`.
ValueAxis axisAround(double low, double high, double least,
                     std::function<std::string(double value)> label);

/// One line of a chart; a missing value is a gap.
struct ChartLine {
  std::string name;
  Colour colour;
  std::vector<std::optional<double>> values;
};

/// Title above, numbers at the left and horizontal rules. Returns nothing drawn over them.
void paintFrame(Canvas &canvas, const ChartArea &area, const std::string &title,
                const ValueAxis &axis);
/// Numbers 0 .. count - 1 under the area, as many as fit, and the name of the axis.
void paintColumnNumbers(Canvas &canvas, const ChartArea &area, uint32_t count,
                        const std::string &name);
void paintBars(Canvas &canvas, const ChartArea &area, const ValueAxis &axis,
               const std::vector<double> &values, Colour colour);
/// Value i is at the middle of the i-th of equal columns; the names are under the title.
void paintLines(Canvas &canvas, const ChartArea &area, const ValueAxis &axis,
                const std::vector<ChartLine> &lines);

/// Cells of a grid, row 0 at the top, with row numbers at the left, column numbers
/// below and the title above.
struct CellGrid {
  std::string title, rowName, columnName;
  uint32_t rows = 0, columns = 0;
  std::function<Colour(uint32_t row, uint32_t column)> colour;
};
void paintCells(Canvas &canvas, const ChartArea &area, const CellGrid &grid);
/// From `low` to `high` in shades of blue, with both ends named.
void paintColourScale(Canvas &canvas, int64_t x, int64_t y, int64_t width, const std::string &low,
                      const std::string &high, const std::function<Colour(double share)> &colour);

} // namespace calibatt

// Charts of rectangles, one-pixel lines and the pixel font.
#include "runtime/tools/Chart.h"
#include "runtime/inspect/mask/MapPainter.h"

#include <algorithm>
#include <cmath>

namespace calibatt {

namespace {

constexpr Colour kRule{226, 232, 240};
constexpr int64_t kLetterHeight = 18, kTick = 5;

/// 1, 2 or 5 times a power of ten, at least `least`.
double roundStep(double least) {
  double step = std::pow(10, std::floor(std::log10(least)));
  for (double factor : {1.0, 2.0, 5.0, 10.0})
    if (step * factor >= least * (1 - 1e-9))
      return step * factor;
  return step * 10;
}

double ruleStep(const ValueAxis &axis) { return roundStep((axis.high - axis.low) / 5); }

void paintSegment(Canvas &canvas, double x0, double y0, double x1, double y1, Colour colour) {
  const int steps = int(std::max({std::abs(x1 - x0), std::abs(y1 - y0), 1.0}));
  for (int i = 0; i <= steps; ++i) {
    const double share = double(i) / steps;
    canvas.fill(std::lround(x0 + (x1 - x0) * share), std::lround(y0 + (y1 - y0) * share), 2, 2,
                colour);
  }
}

} // namespace

ValueAxis axisAround(double low, double high, double least,
                     std::function<std::string(double value)> label) {
  if (high - low < least) {
    const double middle = (low + high) / 2;
    low = middle - least / 2;
    high = middle + least / 2;
  }
  const double step = roundStep((high - low) / 5);
  return {std::floor(low / step + 1e-9) * step, std::ceil(high / step - 1e-9) * step,
          std::move(label)};
}

void paintFrame(Canvas &canvas, const ChartArea &area, const std::string &title,
                const ValueAxis &axis) {
  canvas.text(area.x, area.y - 2 * kLetterHeight - 14, title, colours::kInk);
  const double step = ruleStep(axis);
  for (double value = axis.low; value <= axis.high + step * 1e-6; value += step) {
    const int64_t y = area.y + area.height - std::lround(axis.share(value) * double(area.height));
    canvas.fill(area.x, y, area.width, 1, kRule);
    const std::string label = axis.label(value);
    canvas.text(area.x - 8 - textWidth(label), y - kLetterHeight / 2 + 2, label, colours::kQuiet);
  }
  canvas.fill(area.x, area.y + area.height, area.width, 1, colours::kOutline);
}

void paintColumnNumbers(Canvas &canvas, const ChartArea &area, uint32_t count,
                        const std::string &name) {
  const double column = double(area.width) / count;
  const double room = textWidth(std::to_string(count)) + 14;
  const uint32_t step = column >= room ? 1 : uint32_t(roundStep(room / column));
  for (uint32_t i = 0; i < count; i += step) {
    const std::string number = std::to_string(i);
    const int64_t middle = area.x + std::lround((i + 0.5) * column);
    canvas.fill(middle, area.y + area.height + 1, 1, kTick, colours::kOutline);
    canvas.text(middle - textWidth(number) / 2, area.y + area.height + kTick + 4, number,
                colours::kQuiet);
  }
  canvas.text(area.x + (area.width - textWidth(name)) / 2,
              area.y + area.height + kTick + kLetterHeight + 8, name, colours::kQuiet);
}

void paintBars(Canvas &canvas, const ChartArea &area, const ValueAxis &axis,
               const std::vector<double> &values, Colour colour) {
  const double column = double(area.width) / double(values.size());
  const int64_t gap = column >= 4 ? std::max<int64_t>(1, std::lround(column / 6)) : 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const int64_t left = area.x + std::lround(double(i) * column);
    const int64_t right = area.x + std::lround(double(i + 1) * column);
    const double share = std::clamp(axis.share(values[i]), 0.0, 1.0);
    const int64_t height = std::lround(share * double(area.height));
    canvas.fill(left + gap, area.y + area.height - height,
                std::max<int64_t>(1, right - left - 2 * gap), height, colour);
  }
}

void paintLines(Canvas &canvas, const ChartArea &area, const ValueAxis &axis,
                const std::vector<ChartLine> &lines) {
  int64_t x = area.x;
  for (const ChartLine &line : lines) {
    const int64_t y = area.y - kLetterHeight - 10;
    canvas.fill(x, y + 6, 14, 4, line.colour);
    canvas.text(x + 20, y, line.name, colours::kInk);
    x += 20 + textWidth(line.name) + 24;
    const double column = double(area.width) / double(std::max<size_t>(1, line.values.size()));
    auto down = [&](double value) {
      return double(area.y + area.height) -
             std::clamp(axis.share(value), 0.0, 1.0) * double(area.height);
    };
    std::optional<std::pair<double, double>> last;
    for (size_t i = 0; i < line.values.size(); ++i) {
      if (!line.values[i]) {
        last.reset();
        continue;
      }
      const std::pair<double, double> here = {double(area.x) + (double(i) + 0.5) * column,
                                              down(*line.values[i])};
      if (last)
        paintSegment(canvas, last->first, last->second, here.first, here.second, line.colour);
      if (column >= 10 || !last)
        canvas.fill(std::lround(here.first) - 2, std::lround(here.second) - 2, 6, 6, line.colour);
      last = here;
    }
  }
}

void paintCells(Canvas &canvas, const ChartArea &area, const CellGrid &grid) {
  canvas.text(area.x, area.y - 2 * kLetterHeight - 14, grid.title, colours::kInk);
  const double across = double(area.width) / grid.columns, down = double(area.height) / grid.rows;
  for (uint32_t row = 0; row < grid.rows; ++row) {
    const int64_t top = area.y + std::lround(row * down),
                  bottom = area.y + std::lround((row + 1) * down);
    for (uint32_t column = 0; column < grid.columns; ++column) {
      const int64_t left = area.x + std::lround(column * across),
                    right = area.x + std::lround((column + 1) * across);
      // A hair between cells where they are large enough.
      canvas.fill(left, top, right - left - (across >= 8), bottom - top - (down >= 8),
                  grid.colour(row, column));
    }
  }
  canvas.frame(area.x, area.y, area.width, area.height, colours::kOutline);
  const uint32_t step =
      down >= kLetterHeight + 4 ? 1 : uint32_t(roundStep((kLetterHeight + 4) / down));
  for (uint32_t row = 0; row < grid.rows; row += step) {
    const std::string number = std::to_string(row);
    canvas.text(area.x - 8 - textWidth(number),
                area.y + std::lround((row + 0.5) * down) - kLetterHeight / 2 + 2, number,
                colours::kQuiet);
  }
  canvas.textUpwards(area.x - 62, area.y + (area.height + textWidth(grid.rowName)) / 2,
                     grid.rowName, colours::kQuiet);
  paintColumnNumbers(canvas, area, grid.columns, grid.columnName);
}

void paintColourScale(Canvas &canvas, int64_t x, int64_t y, int64_t width, const std::string &low,
                      const std::string &high, const std::function<Colour(double share)> &colour) {
  canvas.text(x, y, low, colours::kQuiet);
  x += textWidth(low) + 8;
  for (int64_t i = 0; i < width; ++i)
    canvas.fill(x + i, y + 1, 1, 14, colour(double(i) / double(width - 1)));
  canvas.text(x + width + 8, y, high, colours::kQuiet);
}

} // namespace calibatt

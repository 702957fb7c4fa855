// Layout of the page: three charts above, two grids below.
#include "runtime/tools/StabilityPage.h"
#include "calib_profiles/EnergySchedule.h"
#include "runtime/format/Quantity.h"
#include "runtime/inspect/TextTable.h"
#include "runtime/inspect/mask/MapPainter.h"
#include "runtime/tools/Chart.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace calibatt {

namespace {

constexpr uint32_t kWidth = 1800, kHeight = 1240;
constexpr Colour kHeldOut = colours::kAnchor, kTarget{100, 116, 139}, kOwn{21, 128, 61};

std::string percent(double value) { return fmt::format("{:g} %", std::round(value * 1000) / 10); }

/// White to dark blue.
Colour densityColour(double density) {
  return mix({239, 246, 255}, {23, 37, 84}, std::sqrt(std::clamp(density, 0.0, 1.0)));
}

/// By density; the orange of repetitive heads where most of the sites are such.
Colour cellColour(const StabilityMeans &means) {
  if (2 * means.repetitive >= means.sites)
    return mix({253, 186, 116}, colours::kAnchor,
               double(means.repetitive) / double(std::max<uint64_t>(1, means.sites)));
  return densityColour(means.density());
}

void paintFrequencies(Canvas &canvas, const ChartArea &area, const StabilityReport &report) {
  uint64_t total = 0;
  for (uint64_t blocks : report.frequencies)
    total += blocks;
  std::vector<double> shares;
  for (uint64_t blocks : report.frequencies)
    shares.push_back(double(blocks) / double(std::max<uint64_t>(1, total)));
  const ValueAxis axis =
      axisAround(0, *std::max_element(shares.begin(), shares.end()), 0.05, percent);
  paintFrame(canvas, area, "blocks by the prompts that keep them", axis);
  canvas.text(area.x, area.y - 28,
              fmt::format("{} agree to 90 % or more", percentage(report.decided())),
              colours::kQuiet);
  paintBars(canvas, area, axis, shares, colours::kKept);
  paintColumnNumbers(canvas, area, uint32_t(shares.size()), "prompts");
}

void paintMass(Canvas &canvas, const ChartArea &area, const StabilityReport &report) {
  const uint32_t steps = report.header.stepCount();
  const EnergySchedule schedule = scheduleOf(report.header.criterion, steps);
  ChartLine target{"eps", kTarget, {}}, kept{"calibrated", colours::kKept, {}},
      heldOut{"held out", kHeldOut, {}}, own{"held out's own", kOwn, {}};
  double low = 1;
  for (uint32_t step = 0; step < steps; ++step) {
    const StabilityMeans &means = report.steps[step];
    target.values.push_back(schedule.epsilon(step));
    low = std::min(low, schedule.epsilon(step));
    auto add = [&](ChartLine &line, double value) {
      line.values.push_back(means.masked() ? std::optional(value) : std::nullopt);
      if (means.masked())
        low = std::min(low, value);
    };
    add(kept, means.keptMass());
    if (report.heldOutPrompts) {
      add(heldOut, means.heldOutMass());
      add(own, means.ownMass());
    }
  }
  const ValueAxis axis = axisAround(low, 1, 0.05, percent);
  paintFrame(canvas, area, "attention inside the masks, by step", axis);
  std::vector<ChartLine> lines = {target, kept};
  if (report.heldOutPrompts)
    lines.insert(lines.end(), {own, heldOut});
  paintLines(canvas, area, axis, lines);
  paintColumnNumbers(canvas, area, steps, "step");
}

void paintSteps(Canvas &canvas, const ChartArea &area, const StabilityReport &report) {
  ChartLine iou{"IoU with the step before", colours::kKept, {}}, density{"density", kHeldOut, {}};
  for (const StabilityMeans &means : report.steps) {
    iou.values.push_back(means.pairs ? std::optional(means.iou()) : std::nullopt);
    density.values.push_back(means.masked() ? std::optional(means.density()) : std::nullopt);
  }
  const ValueAxis axis = {0, 1, percent};
  paintFrame(canvas, area, "masks, by step", axis);
  paintLines(canvas, area, axis, {iou, density});
  paintColumnNumbers(canvas, area, report.header.stepCount(), "step");
}

} // namespace

Canvas stabilityPage(const StabilityReport &report) {
  const ProfileHeader &h = report.header;
  Canvas canvas(kWidth, kHeight, colours::kPaper);
  canvas.text(40, 24, h.model, colours::kInk, 3);
  std::string facts =
      fmt::format("{} x {} x {} patches, {}, {}, {}, {}, rho {:g}, gamma {:g}", h.grid.frames,
                  h.grid.height, h.grid.width, counted(h.layers, "layer"), counted(h.heads, "head"),
                  counted(h.stepCount(), "step"), counted(h.prompts, "prompt"), h.criterion.rho,
                  h.criterion.gamma);
  if (report.heldOutPrompts)
    facts += fmt::format(", {} held out", report.heldOutPrompts);
  canvas.text(40, 66, facts, colours::kQuiet);
  std::string results =
      fmt::format("density {}, attention kept {}", percentage(report.all.density()),
                  percentage(report.all.keptMass()));
  if (report.heldOutPrompts)
    results += fmt::format(", of held-out prompts {} ({} of what their own masks keep)",
                           percentage(report.all.heldOutMass()), percentage(report.all.recall()));
  results += fmt::format(", {} of {} repetitive", groupedNumber(report.all.repetitive),
                         counted(report.all.sites, "site"));
  canvas.text(40, 92, results, colours::kInk);

  paintFrequencies(canvas, {130, 200, 420, 320}, report);
  paintMass(canvas, {690, 200, 480, 320}, report);
  paintSteps(canvas, {1290, 200, 460, 320}, report);

  CellGrid bySteps{"density, layers and steps",
                   "layer",
                   "step",
                   h.layers,
                   h.stepCount(),
                   [&](uint32_t layer, uint32_t step) {
                     return cellColour(report.layerSteps[size_t(layer) * h.stepCount() + step]);
                   }};
  CellGrid byHeads{"density, layers and heads",
                   "layer",
                   "head",
                   h.layers,
                   h.heads,
                   [&](uint32_t layer, uint32_t head) {
                     return cellColour(report.layerHeads[size_t(layer) * h.heads + head]);
                   }};
  paintCells(canvas, {130, 690, 740, 440}, bySteps);
  paintCells(canvas, {1010, 690, 740, 440}, byHeads);
  for (int64_t x : {130, 1010}) {
    paintColourScale(canvas, x, 663, 160, "0", "100 %",
                     [](double share) { return densityColour(share); });
    canvas.fill(x + 320, 664, 14, 14, mix({253, 186, 116}, colours::kAnchor, 0.75));
    canvas.text(x + 342, 663, "mostly repetitive", colours::kInk);
  }
  return canvas;
}

} // namespace calibatt

// Schedules for reading: rows with their runs, and a picture.
#include "runtime/inspect/SiteSchedule.h"

#include "runtime/inspect/TextTable.h"
#include "runtime/inspect/mask/MaskText.h"
#include "runtime/src/KernelSchedule.h"

#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>

namespace calibatt {

Result<SiteSchedule> siteSchedule(const PackageReader &package, const Site &site) {
  SiteCosts costs(package);
  auto row = siteRow(package, site, costs);
  if (!row)
    return row.takeError();
  SiteSchedule result{site, row.take(), 0, {}};
  auto schedule = kernelSchedule(package, result.row.kernel);
  if (!schedule)
    return schedule.takeError();
  result.headInSchedule = site.head - result.row.record.headBase;
  result.schedule = schedule.take();
  return result;
}

/// Ascending (first, last) of consecutive blocks.
static std::vector<std::pair<unsigned, unsigned>> runsOf(const std::vector<uint16_t> &blocks) {
  std::vector<std::pair<unsigned, unsigned>> runs;
  for (size_t i = blocks.size(); i-- > 0;) {
    if (!runs.empty() && runs.back().second + 1 == blocks[i])
      runs.back().second = blocks[i];
    else
      runs.emplace_back(blocks[i], blocks[i]);
  }
  return runs;
}

std::string runsText(const std::vector<uint16_t> &blocks) {
  std::string text;
  for (auto [first, last] : runsOf(blocks)) {
    text += text.empty() ? "" : " ";
    text += first == last ? fmt::format("{}", first) : fmt::format("{}-{}", first, last);
  }
  return text;
}

VideoShape shapeOf(const Problem &problem) {
  return {problem.model, problem.frames,  problem.height,
          problem.width, problem.maxText, problem.block};
}

SiteMask siteMask(const Site &site, const KernelRecord &kernel, const Schedule &schedule) {
  const uint32_t head = site.head - kernel.headBase;
  SiteMask mask;
  mask.site = site;
  mask.blocks = schedule.queryBlocks;
  mask.kept.resize(size_t(schedule.queryBlocks) * schedule.keyBlocks);
  for (uint32_t q = 0; q < schedule.queryBlocks; ++q)
    for (uint16_t block : schedule.row(head, q))
      mask.kept[size_t(q) * schedule.keyBlocks + block] = 1;
  if (schedule.isRepetitive(head)) {
    mask.repetitive = true;
    mask.tiles = schedule.rowsOf(head);
    for (uint32_t anchor = 0; anchor < schedule.grid.anchors; ++anchor)
      mask.anchorRows.push_back(anchorRow(schedule.grid, anchor));
  }
  return mask;
}

std::string scheduleText(const SiteSchedule &site, const Problem &problem, const TextStyle &style) {
  const Schedule &schedule = site.schedule;
  const SiteMask mask = siteMask(site.site, site.row.record, schedule);
  const uint64_t all = uint64_t(schedule.queryBlocks) * schedule.keyBlocks;

  TextFields fields;
  fields.add("site", siteName(site.site));
  fields.add("kernel",
             fmt::format("{} ({}, {})", site.row.kernel, site.row.symbol, formName(site.row.form)));
  fields.add("why this form",
             site.row.record.reason.empty() ? "not recorded" : site.row.record.reason);
  uint32_t tail = schedule.tokens % kBlock;
  fields.add("grid", fmt::format("{} x {} of {} tokens, {}", schedule.queryBlocks,
                                 counted(schedule.keyBlocks, "block"), kBlock,
                                 tail ? fmt::format("the last of {}", tail) : "no tail"));
  fields.add("computed",
             fmt::format("{} of the {} of dense attention ({}), kept mass {}",
                         groupedNumber(site.row.cost.visits), counted(all, "visit"),
                         percentage(site.row.cost.computed), percentage(site.row.stats.keptMass)));
  if (site.row.cost.predictedMicros > 0)
    fields.add("predicted",
               duration(site.row.cost.predictedMicros * 1e-6) +
                   (site.row.record.heads > 1
                        ? fmt::format(" of the {} of its launch of {}",
                                      duration(double(site.row.record.predictedMicros) * 1e-6),
                                      counted(site.row.record.heads, "head"))
                        : ""));
  if (mask.tiles)
    fields.add("repetitive",
               fmt::format("spatial rows {} of the {} a frame are computed, {} queries packed into "
                           "{} of {} tiles; the other rows are copies of the nearest of them",
                           fmt::join(mask.anchorRows, ", "), schedule.grid.height,
                           groupedNumber(packedQueries(schedule.grid, schedule.tokens)), mask.tiles,
                           schedule.queryBlocks));
  std::string text = fields.text(style) + "\n";

  const uint32_t rows = schedule.rowsOf(site.headInSchedule);
  TextTable table({mask.tiles ? ">packed tiles" : ">rows", ">blocks",
                   "key blocks (visited from the last to the first)"});
  for (uint32_t q = 0; q < rows;) {
    const auto &blocks = site.keyBlocks(q);
    uint32_t end = q + 1;
    while (end < rows && site.keyBlocks(end) == blocks)
      ++end;
    table.addRow({end == q + 1 ? fmt::format("{}", q) : fmt::format("{}-{}", q, end - 1),
                  std::to_string(blocks.size()), runsText(blocks)});
    q = end;
  }
  text += table.text(style);
  const MaskTextOptions picture;
  text +=
      "\n  " + style.bold("mask") + " " +
      style.dim(fmt::format("(rows: queries, columns: keys; {})", maskTextLegend(mask, picture))) +
      "\n";
  return text + maskText(mask, shapeOf(problem), picture, style);
}

nlohmann::ordered_json scheduleJson(const SiteSchedule &site) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (uint32_t q = 0; q < site.schedule.queryBlocks; ++q) {
    nlohmann::ordered_json runs = nlohmann::ordered_json::array();
    for (auto [first, last] : runsOf(site.keyBlocks(q)))
      runs.push_back({first, last});
    rows.push_back({{"row", q}, {"blocks", site.keyBlocks(q).size()}, {"runs", std::move(runs)}});
  }
  const SiteMask mask = siteMask(site.site, site.row.record, site.schedule);
  return {
      {"query_blocks", site.schedule.queryBlocks},
      {"key_blocks", site.schedule.keyBlocks},
      {"tokens", site.schedule.tokens},
      {"anchors", site.schedule.isRepetitive(site.headInSchedule) ? site.schedule.grid.anchors : 0},
      {"anchor_rows", mask.anchorRows},
      {"tiles", site.schedule.rowsOf(site.headInSchedule)},
      {"rows", std::move(rows)}};
}

} // namespace calibatt

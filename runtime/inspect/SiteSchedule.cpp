// Schedules for reading: rows with their runs, and a picture.
#include "runtime/inspect/SiteSchedule.h"

#include "runtime/inspect/TextTable.h"
#include "runtime/inspect/mask/MaskText.h"
#include "runtime/src/KernelSchedule.h"

#include <algorithm>
#include <fmt/format.h>

namespace calibatt {

Result<SiteSchedule> siteSchedule(const PackageReader &package, const Site &site) {
  SiteSchedule result{site, siteRow(package, site), 0, {}};
  auto schedule = kernelSchedule(package, result.row.kernel);
  if (!schedule)
    return schedule.takeError();
  const KernelRecord &record = result.row.record;
  if (site.head < record.headBase || site.head - record.headBase >= record.heads)
    return Error{fmt::format("{}: {}: routed to kernel {}, which covers heads {}..{}",
                             package.path(), siteName(site), result.row.kernel, record.headBase,
                             record.headBase + record.heads - 1)};
  result.headInSchedule = site.head - record.headBase;
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

SiteMask siteMask(const SiteRow &row, const Schedule &schedule) {
  SiteMask mask;
  mask.site = row.site;
  mask.blocks = schedule.queryBlocks;
  mask.kept.resize(size_t(schedule.queryBlocks) * schedule.keyBlocks);
  for (uint32_t q = 0; q < schedule.queryBlocks; ++q)
    for (uint16_t block : schedule.row(row.site.head - row.record.headBase, q))
      mask.kept[size_t(q) * schedule.keyBlocks + block] = 1;
  mask.keptMass = row.stats.keptMass;
  mask.repetition = row.stats.repetition;
  mask.form = formName(row.form);
  return mask;
}

std::string scheduleText(const SiteSchedule &site, const Problem &problem, const TextStyle &style) {
  const Schedule &schedule = site.schedule;
  uint64_t visits = 0;
  for (uint32_t q = 0; q < schedule.queryBlocks; ++q)
    visits += site.keyBlocks(q).size();
  uint64_t all = uint64_t(schedule.queryBlocks) * schedule.keyBlocks;

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
  fields.add("kept", fmt::format("{} of {} ({}), attention mass {}", groupedNumber(visits),
                                 counted(all, "block"), percentage(double(visits) / double(all)),
                                 percentage(site.row.stats.keptMass)));
  if (schedule.isRepetitive(site.headInSchedule))
    fields.add("repetitive",
               fmt::format("{} of {} spatial rows a frame computed, {} packed queries in {} of {} "
                           "tiles; the others are copies",
                           schedule.grid.anchors, schedule.grid.height,
                           groupedNumber(packedQueries(schedule.grid, schedule.tokens)),
                           schedule.rowsOf(site.headInSchedule), schedule.queryBlocks));
  std::string text = fields.text(style) + "\n";

  TextTable table({">rows", ">blocks", "key blocks (visited from the last to the first)"});
  for (uint32_t q = 0; q < schedule.queryBlocks;) {
    const auto &blocks = site.keyBlocks(q);
    uint32_t end = q + 1;
    while (end < schedule.queryBlocks && site.keyBlocks(end) == blocks)
      ++end;
    table.addRow({end == q + 1 ? fmt::format("{}", q) : fmt::format("{}-{}", q, end - 1),
                  std::to_string(blocks.size()), runsText(blocks)});
    q = end;
  }
  text += table.text(style);
  const SiteMask mask = siteMask(site.row, schedule);
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
  return {
      {"query_blocks", site.schedule.queryBlocks},
      {"key_blocks", site.schedule.keyBlocks},
      {"tokens", site.schedule.tokens},
      {"anchors", site.schedule.isRepetitive(site.headInSchedule) ? site.schedule.grid.anchors : 0},
      {"tiles", site.schedule.rowsOf(site.headInSchedule)},
      {"rows", std::move(rows)}};
}

} // namespace calibatt

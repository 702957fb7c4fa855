// Tables and JSON of counts.
#include "runtime/tools/CountsReport.h"
#include "calib_profiles/EnergySchedule.h"
#include "runtime/tools/ProfileTables.h"

#include <fmt/format.h>

#include <algorithm>

namespace calibatt {

namespace {

/// Kept blocks of the covers / all blocks.
double coverDensity(const CountsReader &counts) {
  const ProfileHeader &h = counts.header();
  double kept = 0;
  for (uint64_t site = 0; site < counts.layout().sites; ++site)
    kept += double(counts.scalars(site).kept);
  return kept / double(std::max(1u, h.prompts)) / double(counts.layout().sites) / h.blocks() /
         h.blocks();
}

std::string shareOf(const StabilityMeans &means, double value) {
  return means.masked() ? percentage(value) : "-";
}

/// Ten parts from "kept by none" to "kept by all", however many prompts there are.
std::vector<uint64_t> frequencyTenths(const StabilityReport &report) {
  std::vector<uint64_t> tenths(10);
  for (size_t count = 0; count < report.frequencies.size(); ++count)
    tenths[std::min<size_t>(9, count * 10 / std::max(1u, report.header.prompts))] +=
        report.frequencies[count];
  return tenths;
}

nlohmann::ordered_json meansJson(const StabilityMeans &m, bool heldOut) {
  auto known = [](bool is, double value) {
    return is ? nlohmann::ordered_json(value) : nlohmann::ordered_json(nullptr);
  };
  nlohmann::ordered_json json = {{"sites", m.sites},
                                 {"repetitive_sites", m.repetitive},
                                 {"density", known(m.masked(), m.density())},
                                 {"kept_mass", known(m.masked(), m.keptMass())}};
  if (heldOut) {
    json["held_out_kept_mass"] = known(m.masked(), m.heldOutMass());
    json["held_out_own_mass"] = known(m.masked(), m.ownMass());
    json["held_out_recall"] = known(m.masked(), m.recall());
  }
  json["iou_with_step_before"] = known(m.pairs > 0, m.iou());
  return json;
}

std::vector<std::string> meansCells(const StabilityMeans &m, bool heldOut) {
  std::vector<std::string> cells = {shareOf(m, m.density()), shareOf(m, m.keptMass())};
  if (heldOut) {
    cells.push_back(shareOf(m, m.heldOutMass()));
    cells.push_back(shareOf(m, m.ownMass()));
    cells.push_back(shareOf(m, m.recall()));
  }
  cells.push_back(m.pairs ? fmt::format("{:.3f}", m.iou()) : "-");
  return cells;
}

std::vector<std::string> titles(std::vector<std::string> first, bool heldOut,
                                const std::string &last) {
  first.insert(first.end(), {">density", ">kept mass"});
  if (heldOut)
    first.insert(first.end(), {">held out", ">its own", ">recall"});
  first.push_back(">IoU of steps");
  first.push_back(last);
  return first;
}

} // namespace

std::string countsText(const CountsReader &counts, uint64_t fileBytes, const TextStyle &style) {
  const ProfileHeader &h = counts.header();
  const EnergySchedule schedule = scheduleOf(h.criterion, h.stepCount());
  TextFields fields;
  fields.add("model", h.model);
  fields.add("grid",
             fmt::format("{} x {} x {} (frames x height x width){}", h.grid.frames, h.grid.height,
                         h.grid.width, h.maxText ? fmt::format(", {} of text", h.maxText) : ""));
  fields.add("tokens",
             fmt::format("{} in {}", groupedNumber(h.tokens()), counted(h.blocks(), "block")));
  fields.add("sites",
             fmt::format("{} ({} x {} x {}), head_dim {}", groupedNumber(counts.layout().sites),
                         counted(h.layers, "layer"), counted(h.heads, "head"),
                         counted(h.stepCount(), "step"), h.headDim));
  fields.add("criterion", fmt::format("eps {:.3f} + {:.3f} exp(-{:g} t/T), {}", schedule.a,
                                      schedule.c - schedule.a, schedule.k,
                                      counted(h.criterion.anchors, "anchor row")));
  fields.add("prompts", std::to_string(h.prompts));
  fields.add("covers", h.prompts ? percentage(coverDensity(counts)) + " of the blocks" : "-");
  fields.add("energies", counts.kind() == CountsKind::Sums ? "sums: prompts can be added"
                                                           : "means: nothing can be added");
  fields.add("file", fmt::format("{}, {}", counts.path(), byteQuantity(fileBytes)));
  return fields.text(style);
}

nlohmann::ordered_json countsJson(const CountsReader &counts, uint64_t fileBytes) {
  const ProfileHeader &h = counts.header();
  nlohmann::ordered_json json = modelJson(counts.path(), fileBytes, h);
  json.update({{"criterion",
                {{"a", h.criterion.a},
                 {"c", h.criterion.c},
                 {"k", h.criterion.k},
                 {"anchors", h.criterion.anchors}}},
               {"energies", counts.kind() == CountsKind::Sums ? "sums" : "means"},
               {"cover_density", coverDensity(counts)},
               {"prompts", counts.prompts()},
               {"prompts_hash", h.promptsHash}});
  return json;
}

std::string stabilityText(const std::string &path, const StabilityReport &report,
                          const TextStyle &style) {
  const ProfileHeader &h = report.header;
  const bool heldOut = report.heldOutPrompts > 0;
  const StabilityMeans &all = report.all;
  TextFields fields;
  fields.add("counts", fmt::format("{}, {}", path, counted(h.prompts, "prompt")));
  fields.add("thresholds", fmt::format("rho {:g}, gamma {:g}", h.criterion.rho, h.criterion.gamma));
  fields.add("density", shareOf(all, all.density()));
  fields.add("kept mass", shareOf(all, all.keptMass()));
  if (heldOut)
    fields.add("held out", fmt::format("{}: {} kept, {} by their own masks, recall {}",
                                       counted(report.heldOutPrompts, "prompt"),
                                       shareOf(all, all.heldOutMass()), shareOf(all, all.ownMass()),
                                       shareOf(all, all.recall())));
  fields.add("IoU of steps", all.pairs ? fmt::format("{:.3f}", all.iou()) : "-");
  fields.add("repetitive",
             fmt::format("{} of {}", groupedNumber(all.repetitive), counted(all.sites, "site")));
  fields.add("agreement", percentage(report.decided()) +
                              " of the blocks are kept by under 10 % or over 90 % of the prompts");

  const std::vector<uint64_t> tenths = frequencyTenths(report);
  uint64_t total = 0;
  for (uint64_t blocks : tenths)
    total += blocks;
  TextTable frequencies({"kept by", ">blocks", ""});
  for (size_t i = 0; i < tenths.size(); ++i) {
    const double share = double(tenths[i]) / double(std::max<uint64_t>(1, total));
    frequencies.addRow({fmt::format("{:3d}-{} % of prompts", int(i) * 10, int(i) * 10 + 10),
                        percentage(share), std::string(size_t(share * 50 + 0.5), '#')});
  }

  const EnergySchedule schedule = scheduleOf(h.criterion, h.stepCount());
  TextTable steps(titles({">step", ">eps"}, heldOut, ">repetitive"));
  for (uint32_t step = 0; step < h.stepCount(); ++step) {
    const StabilityMeans &m = report.steps[step];
    std::vector<std::string> cells = {std::to_string(step), percentage(schedule.epsilon(step))};
    const std::vector<std::string> means = meansCells(m, heldOut);
    cells.insert(cells.end(), means.begin(), means.end());
    cells.push_back(fmt::format("{} of {}", m.repetitive, m.sites));
    steps.addRow(std::move(cells));
  }
  TextTable layers(titles({">layer"}, heldOut, ">repetitive heads"));
  for (uint32_t layer = 0; layer < h.layers; ++layer) {
    std::vector<std::string> cells = {std::to_string(layer)};
    const std::vector<std::string> means = meansCells(report.layers[layer], heldOut);
    cells.insert(cells.end(), means.begin(), means.end());
    cells.push_back(fmt::format("{} of {}", report.repetitiveHeads(layer), h.heads));
    layers.addRow(std::move(cells));
  }
  return fields.text(style) + "\n" + frequencies.text(style) + "\n" + steps.text(style) + "\n" +
         layers.text(style);
}

nlohmann::ordered_json stabilityJson(const std::string &path, const StabilityReport &report) {
  const ProfileHeader &h = report.header;
  const bool heldOut = report.heldOutPrompts > 0;
  const EnergySchedule schedule = scheduleOf(h.criterion, h.stepCount());
  nlohmann::ordered_json json = {{"file", path},
                                 {"model", h.model},
                                 {"layers", h.layers},
                                 {"heads", h.heads},
                                 {"steps", h.stepCount()},
                                 {"prompts", h.prompts},
                                 {"held_out_prompts", report.heldOutPrompts},
                                 {"rho", h.criterion.rho},
                                 {"gamma", h.criterion.gamma},
                                 {"hysteresis", h.criterion.hysteresis},
                                 {"singletons", h.criterion.singletons},
                                 {"keep_frequencies", report.frequencies},
                                 {"decided", report.decided()},
                                 {"all", meansJson(report.all, heldOut)}};
  auto list = nlohmann::ordered_json::array();
  for (uint32_t step = 0; step < h.stepCount(); ++step) {
    nlohmann::ordered_json entry = {{"step", step}, {"epsilon", schedule.epsilon(step)}};
    entry.update(meansJson(report.steps[step], heldOut));
    list.push_back(std::move(entry));
  }
  json["per_step"] = std::move(list);
  list = nlohmann::ordered_json::array();
  for (uint32_t layer = 0; layer < h.layers; ++layer) {
    nlohmann::ordered_json entry = {{"layer", layer},
                                    {"repetitive_heads", report.repetitiveHeads(layer)}};
    entry.update(meansJson(report.layers[layer], heldOut));
    auto means = [&](const std::vector<StabilityMeans> &all, uint32_t count) {
      auto cells = nlohmann::ordered_json::array();
      for (uint32_t i = 0; i < count; ++i)
        cells.push_back(meansJson(all[size_t(layer) * count + i], heldOut));
      return cells;
    };
    entry["per_step"] = means(report.layerSteps, h.stepCount());
    entry["per_head"] = means(report.layerHeads, h.heads);
    list.push_back(std::move(entry));
  }
  json["per_layer"] = std::move(list);
  return json;
}

} // namespace calibatt

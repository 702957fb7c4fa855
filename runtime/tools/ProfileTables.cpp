// Tables and JSON of a profile's summary.
#include "runtime/tools/ProfileTables.h"
#include "calib_profiles/EnergySchedule.h"

#include <fmt/format.h>

#include <unistd.h>

#include <cstdio>
#include <filesystem>

namespace calibatt {

namespace {

/// "-" where no site has a mask of its own.
std::string share(const SiteMeans &means, double SiteMeans::*field) {
  return means.sites == means.repetitive ? "-" : percentage(means.*field);
}

std::string overlap(const SiteMeans &means) {
  return means.pairs ? fmt::format("{:.3f}", means.iou) : "-";
}

std::string runs(const SiteMeans &means) {
  return means.sites == means.repetitive ? "-" : fmt::format("{:.1f}", means.runsPerRow);
}

nlohmann::ordered_json meansJson(const SiteMeans &m) {
  nlohmann::ordered_json json = {{"sites", m.sites}, {"repetitive_sites", m.repetitive}};
  const bool masked = m.sites > m.repetitive;
  auto number = [](bool known, double value) {
    return known ? nlohmann::ordered_json(value) : nlohmann::ordered_json(nullptr);
  };
  json["density"] = number(masked, m.density);
  json["kept_mass"] = number(masked, m.keptMass);
  json["runs_per_row"] = number(masked, m.runsPerRow);
  json["iou_with_step_before"] = number(m.pairs > 0, m.iou);
  json["computed"] = m.computed;
  return json;
}

} // namespace

std::string profileText(const std::string &path, uint64_t fileBytes, const ProfileHeader &h,
                        const ProfileSummary &s, const TextStyle &style) {
  const EnergySchedule schedule = scheduleOf(h.criterion, h.stepCount());
  TextFields fields;
  fields.add("model", h.model);
  fields.add("grid", fmt::format("{} x {} x {} (frames x height x width)", h.grid.frames,
                                 h.grid.height, h.grid.width));
  const uint64_t tail = h.tokens() % h.blockSize;
  fields.add("tokens",
             fmt::format("{} in {}{}", groupedNumber(h.tokens()), counted(h.blocks(), "block"),
                         tail ? fmt::format(", the last of {}", tail) : ""));
  fields.add("sites", fmt::format("{} ({} x {} x {}), head_dim {}", groupedNumber(s.all.sites),
                                  counted(h.layers, "layer"), counted(h.heads, "head"),
                                  counted(h.stepCount(), "step"), h.headDim));
  fields.add("masks", counted(s.distinctMasks, "mask") + ", distinct within their heads");
  fields.add("criterion",
             fmt::format("eps {:.3f} + {:.3f} exp(-{:g} t/T), rho {:g}, gamma {:g}, {}", schedule.a,
                         schedule.c - schedule.a, schedule.k, h.criterion.rho, h.criterion.gamma,
                         counted(h.prompts, "prompt")));
  if (h.criterion.hysteresis > 0 || h.criterion.singletons > 0)
    fields.add("against noise", fmt::format("hysteresis {:g}, singletons {:g}",
                                            h.criterion.hysteresis, h.criterion.singletons));
  fields.add("computed", percentage(s.all.computed) + " of the visits of dense attention");
  fields.add("density",
             fmt::format("{} of the masks (early steps {}, late {})",
                         share(s.all, &SiteMeans::density), share(s.early, &SiteMeans::density),
                         share(s.late, &SiteMeans::density)));
  fields.add("kept mass", share(s.all, &SiteMeans::keptMass));
  fields.add("runs a row", runs(s.all));
  fields.add("IoU of steps", fmt::format("early {}, late {}", overlap(s.early), overlap(s.late)));
  fields.add("repetitive", counted(s.all.repetitive, "site") + ", which have no mask");
  fields.add("file", fmt::format("{}, {}", path, byteQuantity(fileBytes)));

  TextTable table({">layer", ">computed", ">density", ">early", ">late", ">kept mass",
                   ">runs a row", ">IoU early", ">IoU late", ">repetitive"});
  for (uint32_t layer = 0; layer < h.layers; ++layer) {
    const SiteMeans &all = s.layers[layer];
    table.addRow({std::to_string(layer), percentage(all.computed), share(all, &SiteMeans::density),
                  share(s.layersEarly[layer], &SiteMeans::density),
                  share(s.layersLate[layer], &SiteMeans::density), share(all, &SiteMeans::keptMass),
                  runs(all), overlap(s.layersEarly[layer]), overlap(s.layersLate[layer]),
                  fmt::format("{} of {}", s.repetitiveHeads[layer], h.heads)});
  }
  return fields.text(style) + "\n" + table.text(style);
}

nlohmann::ordered_json modelJson(const std::string &path, uint64_t fileBytes,
                                 const ProfileHeader &h) {
  return {{"file", path},          {"file_bytes", fileBytes},
          {"model", h.model},      {"grid", {h.grid.frames, h.grid.height, h.grid.width}},
          {"tokens", h.tokens()},  {"max_text", h.maxText},
          {"blocks", h.blocks()},  {"layers", h.layers},
          {"heads", h.heads},      {"steps", h.stepCount()},
          {"head_dim", h.headDim}, {"scale", h.scale},
          {"dtype", h.dtype}};
}

nlohmann::ordered_json profileJson(const std::string &path, uint64_t fileBytes,
                                   const ProfileHeader &h, const ProfileSummary &s) {
  nlohmann::ordered_json json = modelJson(path, fileBytes, h);
  json.update({
      {"criterion",
       {{"a", h.criterion.a},
        {"c", h.criterion.c},
        {"k", h.criterion.k},
        {"rho", h.criterion.rho},
        {"gamma", h.criterion.gamma},
        {"anchors", h.criterion.anchors},
        {"hysteresis", h.criterion.hysteresis},
        {"singletons", h.criterion.singletons}}},
      {"prompts", h.prompts},
      {"prompts_hash", h.promptsHash},
      {"seed", h.seed},
      {"tool", h.tool},
      {"distinct_masks", s.distinctMasks},
      {"all", meansJson(s.all)},
      {"early", meansJson(s.early)},
      {"late", meansJson(s.late)},
  });
  json["per_layer"] = nlohmann::ordered_json::array();
  for (uint32_t layer = 0; layer < h.layers; ++layer) {
    nlohmann::ordered_json entry = {{"layer", layer}};
    entry.update(meansJson(s.layers[layer]));
    entry["repetitive_heads"] = s.repetitiveHeads[layer];
    entry["early"] = meansJson(s.layersEarly[layer]);
    entry["late"] = meansJson(s.layersLate[layer]);
    json["per_layer"].push_back(std::move(entry));
  }
  json["per_step"] = nlohmann::ordered_json::array();
  for (uint32_t step = 0; step < h.stepCount(); ++step) {
    nlohmann::ordered_json entry = {{"step", step},
                                    {"timestep", h.steps[step].timestep},
                                    {"sigma", h.steps[step].sigma},
                                    {"module", h.steps[step].module}};
    entry.update(meansJson(s.steps[step]));
    json["per_step"].push_back(std::move(entry));
  }
  return json;
}

ProgressLine::ProgressLine(std::string name, uint64_t total)
    : name(std::move(name)), total(total), terminal(isatty(STDERR_FILENO)) {}

ProgressLine::~ProgressLine() {
  if (terminal)
    std::fputs("\r\033[K", stderr);
}

void ProgressLine::update(uint64_t done) {
  if (terminal)
    std::fprintf(stderr, "\r%s %llu/%llu", name.c_str(), (unsigned long long)done,
                 (unsigned long long)total);
}

uint64_t fileSize(const std::string &path) {
  std::error_code error;
  const uint64_t size = std::filesystem::file_size(path, error);
  return error ? 0 : size;
}

} // namespace calibatt

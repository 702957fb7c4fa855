// `inspect info`.
#include "runtime/inspect/PackageSummary.h"

#include "runtime/format/ImageKind.h"
#include "runtime/inspect/SiteCost.h"
#include "runtime/inspect/SiteSchedule.h"
#include "runtime/inspect/TextTable.h"

#include <algorithm>
#include <fmt/format.h>
#include <unordered_map>

namespace calibatt {

std::string supersetText(const std::vector<SupersetPass> &passes) {
  std::string text;
  for (const SupersetPass &pass : passes)
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", pass.name, pass.bound);
  return text;
}

nlohmann::ordered_json supersetJson(const std::vector<SupersetPass> &passes) {
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  for (const SupersetPass &pass : passes)
    json.push_back({{"name", pass.name}, {"bound", pass.bound}});
  return json;
}

/// Code images that `inspect info` lists as text; JSON has all.
static constexpr uint32_t kCodeRows = 16;

/// Where an image counts in PackageSummary::forms.
static size_t kindOf(const CodeImage &image) {
  return isCalibrationImage(image.symbol) ? 4 : size_t(image.form);
}

/// Whether the package was made for a shape, without a profile.
static bool isForCalibration(const PackageReader &package) {
  return package.manifest().profileDigest.empty();
}

/// Tells schedules apart: the data image, or, where the schedule is in it, the code image.
static uint64_t scheduleOf(const KernelRecord &kernel) {
  return kernel.data != kNone ? kernel.data : (uint64_t(1) << 32 | kernel.code);
}

template <typename Key>
static PackageSummary::Sharing sharingOf(const std::unordered_map<Key, uint64_t> &sites) {
  PackageSummary::Sharing sharing;
  for (const auto &[key, count] : sites) {
    ++sharing.count;
    sharing.sites += count;
    sharing.mostSites = std::max(sharing.mostSites, count);
  }
  return sharing;
}

/// The part of a summary that needs no site.
static void summariseKernels(const PackageReader &package, PackageSummary &summary) {
  auto slot = [&](uint32_t code) -> PackageSummary::FormCount & {
    return summary.forms[kindOf(package.codeInfo(code))];
  };
  const std::vector<uint64_t> launches = launchesOf(package);
  for (uint32_t code = 0; code < package.codeCount(); ++code) {
    ++slot(code).codeImages;
    slot(code).codeBytes += package.codeInfo(code).codeBytes;
  }
  std::vector<bool> counted(package.dataCount());
  for (uint32_t k = 0; k < package.kernelCount(); ++k) {
    const KernelRecord &record = package.kernel(k);
    ++slot(record.code).kernels;
    summary.visits += launches[k] * record.visits;
    summary.predictedMicros += double(launches[k]) * double(record.predictedMicros);
    if (record.data != kNone && !counted[record.data]) {
      counted[record.data] = true;
      slot(record.code).dataBytes += package.dataBytes(record.data);
    }
  }
}

Result<PackageSummary> summarise(const PackageReader &package) {
  const Problem &problem = package.manifest().problem;
  PackageSummary summary;
  for (int form = 0; form < 4; ++form)
    summary.forms.push_back({formName(Form(form))});
  summary.forms.push_back({kCalibrationKind});
  summariseKernels(package, summary);
  auto slot = [&](uint32_t code) -> PackageSummary::FormCount & {
    return summary.forms[kindOf(package.codeInfo(code))];
  };
  const bool exact = package.manifest().supersetPasses.empty();
  SiteCosts costs(package);
  std::pair<double, double> range{1, 0};
  summary.minKeptMass = 1;
  std::unordered_map<uint32_t, uint64_t> kernelSites;
  std::unordered_map<uint64_t, uint64_t> scheduleSites;
  for (uint32_t l = 0; l < problem.layers; ++l)
    for (uint32_t h = 0; h < problem.heads; ++h) {
      uint32_t repetitiveSteps = 0;
      for (uint32_t s = 0; s < problem.steps; ++s) {
        PackageSiteStats stats = package.stats(l, h, s);
        const uint32_t kernel = package.route(l, h, s);
        ++summary.sites;
        ++slot(package.kernel(kernel).code).sites;
        ++kernelSites[kernel];
        ++scheduleSites[scheduleOf(package.kernel(kernel))];
        repetitiveSteps += package.isRepetitive(l, h, s);
        if (exact) {
          auto cost = costs.of({l, h, s});
          if (!cost)
            return cost.takeError();
          range = {std::min(range.first, cost->computed), std::max(range.second, cost->computed)};
        }
        summary.meanKeptMass += stats.keptMass;
        summary.minKeptMass = std::min(summary.minKeptMass, double(stats.keptMass));
        summary.maxKeptMass = std::max(summary.maxKeptMass, double(stats.keptMass));
      }
      summary.repetitiveSites += repetitiveSteps;
      if (repetitiveSteps)
        summary.repetitiveHeads.push_back({l, h, repetitiveSteps});
    }
  summary.kernels = sharingOf(kernelSites);
  summary.schedules = sharingOf(scheduleSites);
  summary.meanComputed =
      double(summary.visits) / (double(summary.sites) * problem.blocks() * problem.blocks());
  if (exact)
    summary.computedRange = range;
  summary.meanKeptMass /= double(summary.sites);
  std::erase_if(summary.forms, [](const auto &f) { return f.codeImages == 0; });
  return summary;
}

static std::string sharingText(const PackageSummary::Sharing &sharing, const char *what) {
  return fmt::format("{}: {:.1f} sites a {} on average, {} at most", counted(sharing.count, what),
                     sharing.meanSites(), what, groupedNumber(sharing.mostSites));
}

static std::string repetitiveText(const PackageReader &package, const PackageSummary &summary) {
  const RepetitionRule &rule = package.manifest().repetition;
  if (isForCalibration(package))
    return fmt::format("to be measured, against {} a frame", counted(rule.anchors, "anchor row"));
  if (!summary.repetitiveSites)
    return fmt::format("no site (score {:g} or more)", rule.gamma);
  return fmt::format("{} of {} sites, in {} (score {:g} or more, {} a frame)",
                     groupedNumber(summary.repetitiveSites), groupedNumber(summary.sites),
                     counted(summary.repetitiveHeads.size(), "head"), rule.gamma,
                     counted(rule.anchors, "anchor row"));
}

/// A line a layer that has repetitive heads.
static TextTable repetitiveTable(const PackageSummary &summary) {
  TextTable table({">layer", ">sites", "repetitive heads"});
  const auto &all = summary.repetitiveHeads;
  for (size_t i = 0; i < all.size();) {
    uint64_t sites = 0;
    std::vector<uint16_t> heads;
    const uint32_t layer = all[i].layer;
    for (; i < all.size() && all[i].layer == layer; ++i) {
      sites += all[i].steps;
      heads.insert(heads.begin(), uint16_t(all[i].head));
    }
    table.addRow({std::to_string(layer), groupedNumber(sites), runsText(heads)});
  }
  return table;
}

/// "40 steps, timestep 999 to 83, sigma 1 to 0.083: 13 of transformer, 27 of transformer_2".
static std::string scheduleText(const std::vector<StepInfo> &steps) {
  if (steps.empty())
    return "not told";
  std::string modules;
  for (size_t i = 0, begin = 0; i < steps.size(); ++i)
    if (i + 1 == steps.size() || steps[i + 1].module != steps[i].module) {
      modules += fmt::format("{}{} of {}", begin ? ", " : "", i + 1 - begin, steps[i].module);
      begin = i + 1;
    }
  return fmt::format("timestep {:g} to {:g}, sigma {:.4g} to {:.4g}: {}", steps.front().timestep,
                     steps.back().timestep, steps.front().sigma, steps.back().sigma, modules);
}

static std::string headline(const PackageReader &package, const PackageSummary &summary,
                            const TextStyle &style) {
  const Manifest &manifest = package.manifest();
  const Problem &p = manifest.problem;
  std::string archs;
  for (const std::string &arch : manifest.archs)
    archs += (archs.empty() ? "" : ", ") + arch;

  TextFields fields;
  fields.add("model", p.model);
  fields.add("tokens", fmt::format("{} = {} x {} x {}{}; {} of {}, tail {}",
                                   groupedNumber(p.tokens), counted(p.frames, "frame"), p.height,
                                   p.width, p.maxText ? fmt::format(" + {} text", p.maxText) : "",
                                   counted(p.blocks(), "block"), p.block,
                                   p.tokens % p.block ? p.tokens % p.block : p.block));
  fields.add("sites", fmt::format("{} = {} x {} x {}", groupedNumber(summary.sites),
                                  counted(p.layers, "layer"), counted(p.heads, "head"),
                                  counted(p.steps, "step")));
  fields.add("schedule", scheduleText(manifest.steps));
  fields.add("head", fmt::format("dim {}, {}, scale {:.8g}", p.headDim, p.dtype, p.scale));
  fields.add("computed",
             percentage(summary.meanComputed) + " of the visits of dense attention" +
                 (summary.computedRange ? fmt::format(", {} to {} over the sites",
                                                      percentage(summary.computedRange->first),
                                                      percentage(summary.computedRange->second))
                                        : ""));
  if (summary.predictedMicros > 0)
    fields.add("predicted", duration(summary.predictedMicros * 1e-6) +
                                " for every layer and step once, a batch of one");
  fields.add("kept mass",
             fmt::format("{} mean, {} to {} over the sites", percentage(summary.meanKeptMass),
                         percentage(summary.minKeptMass), percentage(summary.maxKeptMass)));
  fields.add("repetitive", repetitiveText(package, summary));
  fields.add("code for", fmt::format("{} (driver {}.{} or newer)", archs, manifest.minDriver / 1000,
                                     manifest.minDriver % 1000 / 10));
  fields.add("granularity", fmt::format("one kernel a {}; {}, {}, {}", manifest.granularity,
                                        counted(package.kernelCount(), "kernel"),
                                        counted(package.codeCount(), "code image"),
                                        counted(package.dataCount(), "schedule image")));
  fields.add("sharing", sharingText(summary.kernels, "kernel"));
  fields.add("", sharingText(summary.schedules, "schedule"));
  fields.add("profile", isForCalibration(package) ? "none: made for a shape, to calibrate with"
                                                  : manifest.profileDigest);
  fields.add("masks", isForCalibration(package) ? "every block"
                      : manifest.supersetPasses.empty()
                          ? "the profile's"
                          : "supersets of the profile's: " + supersetText(manifest.supersetPasses));
  fields.add("toolchain", manifest.toolchain);
  fields.add("", manifest.toolchainDigest);
  return fields.text(style);
}

std::string summaryText(const PackageReader &package, const PackageSummary &summary,
                        const TextStyle &style) {
  std::string text = style.bold(package.path()) + fmt::format("  {} ({} bytes)\n",
                                                              byteQuantity(package.fileBytes()),
                                                              groupedNumber(package.fileBytes()));
  text += headline(package, summary, style);
  auto append = [&](const TextTable &table) {
    text += '\n';
    text += table.text(style);
  };

  TextTable sections({"section", ">count", ">bytes", ">size", ">share", ">decoded"});
  for (const PackageReader::Section &s : package.sections())
    sections.addRow({s.name, groupedNumber(s.count), groupedNumber(s.bytes), byteQuantity(s.bytes),
                     percentage(double(s.bytes) / double(package.fileBytes())),
                     byteQuantity(s.rawBytes)});
  sections.addRow({"file", "", groupedNumber(package.fileBytes()),
                   byteQuantity(package.fileBytes()), percentage(1), ""});
  append(sections);

  TextTable forms({"form", ">sites", ">kernels", ">code images", ">code bytes", ">schedule bytes"});
  for (const PackageSummary::FormCount &f : summary.forms)
    forms.addRow({f.kind, f.kind == kCalibrationKind ? "-" : groupedNumber(f.sites),
                  f.kind == kCalibrationKind ? "-" : groupedNumber(f.kernels),
                  groupedNumber(f.codeImages), groupedNumber(f.codeBytes),
                  f.dataBytes                  ? groupedNumber(f.dataBytes)
                  : f.kind == kCalibrationKind ? "-"
                                               : "in code"});
  append(forms);

  TextTable codes({">code", "symbol", "form", "arch", ">registers", ">spill bytes",
                   ">shared memory", ">code bytes"});
  for (uint32_t c = 0; c < std::min(package.codeCount(), kCodeRows); ++c) {
    const CodeImage &code = package.codeInfo(c);
    codes.addRow({std::to_string(c), code.symbol, imageKind(code.symbol, code.form), code.arch,
                  std::to_string(code.registers),
                  std::to_string(code.spillStores + code.spillLoads),
                  byteQuantity(code.staticSmem + uint64_t(code.dynamicSmem)),
                  groupedNumber(code.codeBytes)});
  }
  append(codes);
  if (package.codeCount() > kCodeRows)
    text += fmt::format("  ... {} more, listed by --json\n",
                        groupedNumber(package.codeCount() - kCodeRows));
  if (summary.repetitiveSites)
    append(repetitiveTable(summary));

  const std::vector<std::string> &remarks = package.manifest().remarks;
  text += "\n  " + style.bold(remarks.empty() ? "no remarks" : "remarks") + "\n";
  for (const std::string &remark : remarks)
    text += "  - " + remark + "\n";
  return text;
}

static nlohmann::ordered_json manifestJson(const Manifest &manifest) {
  const Problem &p = manifest.problem;
  return {{"problem",
           {{"model", p.model},
            {"grid", {p.frames, p.height, p.width}},
            {"tokens", p.tokens},
            {"max_text", p.maxText},
            {"layers", p.layers},
            {"heads", p.heads},
            {"steps", p.steps},
            {"head_dim", p.headDim},
            {"block", p.block},
            {"blocks", p.blocks()},
            {"scale", p.scale},
            {"dtype", p.dtype}}},
          {"granularity", manifest.granularity},
          {"superset_passes", supersetJson(manifest.supersetPasses)},
          {"archs", manifest.archs},
          {"min_driver", manifest.minDriver},
          {"profile_digest", manifest.profileDigest},
          {"schedule", stepsToJson(manifest.steps)},
          {"toolchain", manifest.toolchain},
          {"toolchain_digest", manifest.toolchainDigest},
          {"remarks", manifest.remarks}};
}

static nlohmann::ordered_json sharingJson(const PackageSummary::Sharing &sharing) {
  return {{"count", sharing.count},
          {"mean_sites", sharing.meanSites()},
          {"most_sites", sharing.mostSites}};
}

static nlohmann::ordered_json repetitiveJson(const PackageReader &package,
                                             const PackageSummary &summary) {
  const RepetitionRule &rule = package.manifest().repetition;
  nlohmann::ordered_json heads = nlohmann::ordered_json::array();
  for (const auto &head : summary.repetitiveHeads)
    heads.push_back({{"layer", head.layer}, {"head", head.head}, {"steps", head.steps}});
  return {{"gamma", rule.gamma},
          {"anchors", rule.anchors},
          {"sites", summary.repetitiveSites},
          {"heads", std::move(heads)}};
}

nlohmann::ordered_json summaryJson(const PackageReader &package, const PackageSummary &summary) {
  nlohmann::ordered_json json = {{"path", package.path()}, {"file_bytes", package.fileBytes()}};
  json.update(manifestJson(package.manifest()));
  json["kernels"] = package.kernelCount();
  json["schedule_images"] = package.dataCount();
  json["sites"] = summary.sites;
  json["visits"] = summary.visits;
  json["predicted_us"] = summary.predictedMicros;
  using Json = nlohmann::ordered_json;
  const auto &range = summary.computedRange;
  json["computed"] = {{"mean", summary.meanComputed},
                      {"min", range ? Json(range->first) : Json()},
                      {"max", range ? Json(range->second) : Json()}};
  json["kept_mass"] = {
      {"mean", summary.meanKeptMass}, {"min", summary.minKeptMass}, {"max", summary.maxKeptMass}};
  json["sharing"] = {{"kernels", sharingJson(summary.kernels)},
                     {"schedules", sharingJson(summary.schedules)}};
  json["repetitive"] = repetitiveJson(package, summary);
  json["sections"] = nlohmann::ordered_json::array();
  for (const PackageReader::Section &s : package.sections())
    json["sections"].push_back({{"name", s.name},
                                {"bytes", s.bytes},
                                {"share", double(s.bytes) / double(package.fileBytes())},
                                {"decoded_bytes", s.rawBytes},
                                {"count", s.count}});
  json["forms"] = nlohmann::ordered_json::array();
  for (const PackageSummary::FormCount &f : summary.forms)
    json["forms"].push_back({{"form", f.kind},
                             {"sites", f.sites},
                             {"kernels", f.kernels},
                             {"code_images", f.codeImages},
                             {"code_bytes", f.codeBytes},
                             {"schedule_bytes", f.dataBytes}});
  json["code_images"] = nlohmann::ordered_json::array();
  for (uint32_t c = 0; c < package.codeCount(); ++c) {
    const CodeImage &code = package.codeInfo(c);
    json["code_images"].push_back({{"symbol", code.symbol},
                                   {"form", imageKind(code.symbol, code.form)},
                                   {"arch", code.arch},
                                   {"registers", code.registers},
                                   {"spill_store_bytes", code.spillStores},
                                   {"spill_load_bytes", code.spillLoads},
                                   {"static_shared_memory_bytes", code.staticSmem},
                                   {"dynamic_shared_memory_bytes", code.dynamicSmem},
                                   {"code_bytes", code.codeBytes}});
  }
  return json;
}

} // namespace calibatt

// Formats a CompileReport.
#include "compiler/CompileReport.h"

#include "runtime/format/ImageKind.h"
#include "runtime/format/Quantity.h"

#include <fmt/format.h>
#include <map>
#include <nlohmann/json.hpp>

namespace calibatt {

void CodeSummary::take(const CodeImage &image) {
  codeBytes = image.codeBytes;
  fatbinBytes = image.fatbin.size();
  registers = image.registers;
  spillStores = image.spillStores;
  spillLoads = image.spillLoads;
  seconds = image.compileSeconds;
}

namespace {

/// What the kernels of one form add up to.
struct FormTotals {
  uint64_t kernels = 0, codes = 0, sites = 0, codeBytes = 0, predictedBytes = 0, dataBytes = 0;
  uint32_t registers = 0;
  uint64_t spills = 0;
  uint64_t launches = 0;
  double micros = 0, predictedSeconds = 0;
};

/// Calibration kernels come after all forms.
constexpr Form kCalibration = Form(int(Form::Table) + 1);

Form kindOf(const CodeSummary &code) {
  return isCalibrationImage(code.symbol) ? kCalibration : code.form;
}

std::map<Form, FormTotals> totalsByForm(const CompileReport &report) {
  std::map<Form, FormTotals> totals;
  for (const CodeSummary &code : report.codes) {
    FormTotals &t = totals[kindOf(code)];
    ++t.codes;
    t.codeBytes += code.codeBytes;
    t.predictedBytes += code.predictedBytes;
    t.predictedSeconds += code.predictedSeconds;
    t.registers = std::max(t.registers, code.registers);
    t.spills += code.spillStores + code.spillLoads;
  }
  for (const KernelSummary &kernel : report.kernels) {
    FormTotals &t = totals[kindOf(report.codes[kernel.code])];
    ++t.kernels;
    t.sites += kernel.sites;
    t.dataBytes += kernel.dataBytes;
    t.launches += kernel.launches;
    t.micros += kernel.predictedMicros * double(kernel.launches);
  }
  return totals;
}

} // namespace

static nlohmann::ordered_json shardJson(const CompileReport &report) {
  if (!report.shard)
    return nullptr;
  return {{"index", report.shard->index},
          {"count", report.shard->count},
          {"layers", report.shardLayers}};
}

nlohmann::ordered_json reportJson(const CompileReport &report) {
  using Json = nlohmann::ordered_json;
  Json codes = Json::array(), kernels = Json::array();
  for (const CodeSummary &code : report.codes) {
    Json entry = {{"symbol", code.symbol},
                  {"form", imageKind(code.symbol, code.form)},
                  {"kernels", code.kernels},
                  {"predicted_code_bytes", code.predictedBytes},
                  {"predicted_compile_s", code.predictedSeconds}};
    if (!report.dryRun)
      entry.update({{"code_bytes", code.codeBytes},
                    {"fatbin_bytes", code.fatbinBytes},
                    {"registers", code.registers},
                    {"spill_store_bytes", code.spillStores},
                    {"spill_load_bytes", code.spillLoads},
                    {"compile_s", code.seconds}});
    codes.push_back(std::move(entry));
  }
  for (const KernelSummary &kernel : report.kernels) {
    Json entry = {{"dense_fallback", kernel.dense}};
    if (!kernel.dense)
      entry.update({{"layer", kernel.layer}, {"step", kernel.step}});
    entry.update({{"head_base", kernel.headBase},
                  {"heads", kernel.heads},
                  {"sites", kernel.sites},
                  {"launches", kernel.launches},
                  {"form", formName(report.codes[kernel.code].form)},
                  {"reason", kernel.reason},
                  {"code", kernel.code},
                  {"visits", kernel.visits},
                  {"data_bytes", kernel.dataBytes},
                  {"predicted_us", kernel.predictedMicros}});
    kernels.push_back(std::move(entry));
  }
  Json json = {{"profile", report.profile},
               {"package", report.dryRun ? Json() : Json(report.output)},
               {"dry_run", report.dryRun},
               {"model", report.model},
               {"arch", report.arch},
               {"toolchain", report.dryRun ? Json() : Json(report.toolchain)},
               {"shard", shardJson(report)},
               {"layers", report.layers},
               {"heads", report.heads},
               {"steps", report.steps},
               {"tokens", report.tokens},
               {"computed", report.computed},
               {"visits", report.visits},
               {"predicted_us", report.predictedMicros},
               {"data_images", report.dataImages},
               {"data_bytes", report.dataBytes},
               {"deduplication",
                {{"sites", uint64_t(report.layers) * report.heads * report.steps},
                 {"profile_masks", report.profileMasks},
                 {"masks", report.masks},
                 {"rows", report.rows},
                 {"row_classes", report.rowClasses},
                 {"kernels", report.kernels.size()},
                 {"code_images", report.codes.size()},
                 {"data_images", report.dataImages},
                 {"data_bytes", report.dataBytes},
                 {"stored_bytes", report.storedScheduleBytes}}},
               {"cached_layers", report.cachedLayers},
               {"lower_s", report.lowerSeconds},
               {"compile_s", report.compileSeconds},
               {"total_s", report.totalSeconds}};
  json.update({{"predicted_s", report.predictedSeconds},
               {"predicted_package_bytes", report.predictedPackageBytes}});
  if (!report.dryRun)
    json.update(
        {{"cached_code_images", report.cachedCodes}, {"package_bytes", report.packageBytes}});
  json["code_images"] = std::move(codes);
  json["kernels"] = std::move(kernels);
  json["remarks"] = report.remarks;
  return json;
}

std::string reportText(const CompileReport &report) {
  std::string text = fmt::format("{}  {} x {} x {}, {}, computed {:.1f} %, {}\n", report.model,
                                 counted(report.layers, "layer"), counted(report.heads, "head"),
                                 counted(report.steps, "step"), counted(report.tokens, "token"),
                                 report.computed * 100, report.arch);
  text += fmt::format("  {:<11} {:>8} {:>8} {:>7} {:>11} {:>11} {:>10} {:>7} {:>14}\n", "form",
                      "kernels", "sites", "images", report.dryRun ? "code (est.)" : "code", "data",
                      "registers", "spills", "predicted us");
  for (const auto &[form, t] : totalsByForm(report)) {
    auto known = [](bool is, std::string value) { return is ? value : "-"; };
    const bool attention = form != kCalibration;
    text += fmt::format("  {:<11} {:>8} {:>8} {:>7} {:>11} {:>11} {:>10} {:>7} {:>14}\n",
                        attention ? formName(form) : kCalibrationKind,
                        known(attention, std::to_string(t.kernels)),
                        known(attention, std::to_string(t.sites)), t.codes,
                        byteQuantity(report.dryRun ? t.predictedBytes : t.codeBytes),
                        known(attention, byteQuantity(t.dataBytes)),
                        known(!report.dryRun, std::to_string(t.registers)),
                        known(!report.dryRun, byteQuantity(t.spills)),
                        known(t.micros > 0, fmt::format("{:.1f}", t.micros)));
  }
  text += fmt::format("  {} of {} and {} ({}).\n", counted(report.kernels.size(), "kernel"),
                      counted(report.codes.size(), "code image"),
                      counted(report.dataImages, "data image"), byteQuantity(report.dataBytes));
  if (report.rows) // a package to calibrate with has no masks
    text += fmt::format("  {} distinct of {}{}; {} distinct of {}; {} to store.\n",
                        counted(report.profileMasks, "mask"),
                        counted(uint64_t(report.layers) * report.heads * report.steps, "site"),
                        report.masks == report.profileMasks
                            ? ""
                            : fmt::format(", {} after sharing", counted(report.masks, "mask")),
                        counted(report.rowClasses, "row"), counted(report.rows, "row"),
                        byteQuantity(report.storedScheduleBytes));
  if (report.dryRun)
    text +=
        fmt::format("  Dry run: nothing compiled. Predicted: {:.1f} s without a cache, a package "
                    "of {}.\n",
                    report.predictedSeconds, byteQuantity(report.predictedPackageBytes));
  else
    text += fmt::format("  {}: {}, {:.1f} s (lowering {:.1f} s, {} {:.1f} s, {} from the "
                        "cache)\n",
                        report.output, byteQuantity(report.packageBytes), report.totalSeconds,
                        report.lowerSeconds,
                        counted(report.codes.size() - report.cachedCodes, "compile"),
                        report.compileSeconds, report.cachedCodes);
  return text;
}

} // namespace calibatt

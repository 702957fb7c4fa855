// `inspect info`.
#include "runtime/inspect/PackageSummary.h"

#include "runtime/inspect/SiteListing.h"
#include "runtime/inspect/TextTable.h"

#include <algorithm>
#include <fmt/format.h>

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

PackageSummary summarise(const PackageReader &package) {
  const Problem &problem = package.manifest().problem;
  PackageSummary summary;
  summary.forms.resize(4);
  for (int form = 0; form < 4; ++form)
    summary.forms[size_t(form)].form = Form(form);
  auto slot = [&](uint32_t code) -> PackageSummary::FormCount & {
    return summary.forms[size_t(package.codeInfo(code).form)];
  };
  for (uint32_t code = 0; code < package.codeCount(); ++code) {
    ++slot(code).codeImages;
    slot(code).codeBytes += package.codeInfo(code).codeBytes;
  }
  std::vector<bool> counted(package.dataCount());
  for (uint32_t k = 0; k < package.kernelCount(); ++k) {
    const KernelRecord &record = package.kernel(k);
    ++slot(record.code).kernels;
    if (k != package.denseKernel())
      summary.visits += record.visits;
    if (record.data != kNone && !counted[record.data]) {
      counted[record.data] = true;
      slot(record.code).dataBytes += package.dataBytes(record.data);
    }
  }
  summary.minDensity = summary.minKeptMass = 1;
  for (uint32_t l = 0; l < problem.layers; ++l)
    for (uint32_t h = 0; h < problem.heads; ++h)
      for (uint32_t s = 0; s < problem.steps; ++s) {
        PackageSiteStats stats = package.stats(l, h, s);
        ++summary.sites;
        ++slot(package.kernel(package.route(l, h, s)).code).sites;
        summary.meanDensity += stats.density;
        summary.meanKeptMass += stats.keptMass;
        summary.minDensity = std::min(summary.minDensity, double(stats.density));
        summary.maxDensity = std::max(summary.maxDensity, double(stats.density));
        summary.minKeptMass = std::min(summary.minKeptMass, double(stats.keptMass));
      }
  summary.meanDensity /= double(summary.sites);
  summary.meanKeptMass /= double(summary.sites);
  std::erase_if(summary.forms, [](const auto &f) { return f.codeImages == 0; });
  return summary;
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
  fields.add("head", fmt::format("dim {}, {}, scale {:.8g}", p.headDim, p.dtype, p.scale));
  fields.add("density",
             fmt::format("{} mean, {} to {} over the sites", percentage(summary.meanDensity),
                         percentage(summary.minDensity), percentage(summary.maxDensity)));
  fields.add("kept mass", fmt::format("{} mean, {} at least", percentage(summary.meanKeptMass),
                                      percentage(summary.minKeptMass)));
  fields.add("code for", fmt::format("{} (driver {}.{} or newer)", archs, manifest.minDriver / 1000,
                                     manifest.minDriver % 1000 / 10));
  fields.add("granularity", fmt::format("one kernel a {}; {}, {}, {}", manifest.granularity,
                                        counted(package.kernelCount(), "kernel"),
                                        counted(package.codeCount(), "code image"),
                                        counted(package.dataCount(), "schedule image")));
  fields.add("profile", manifest.profileDigest);
  fields.add("masks", manifest.supersetPasses.empty()
                          ? "the profile's"
                          : "supersets of the profile's: " + supersetText(manifest.supersetPasses));
  fields.add("toolchain", manifest.toolchain);
  fields.add("", manifest.toolchainDigest);
  return fields.text(style);
}

std::string summaryText(const PackageReader &package, const TextStyle &style) {
  PackageSummary summary = summarise(package);
  std::string text = style.bold(package.path()) + fmt::format("  {} ({} bytes)\n",
                                                              byteQuantity(package.fileBytes()),
                                                              groupedNumber(package.fileBytes()));
  text += headline(package, summary, style);

  TextTable sections({"section", ">count", ">bytes", ">size", ">share", ">decoded"});
  for (const PackageReader::Section &s : package.sections())
    sections.addRow({s.name, groupedNumber(s.count), groupedNumber(s.bytes), byteQuantity(s.bytes),
                     percentage(double(s.bytes) / double(package.fileBytes())),
                     byteQuantity(s.rawBytes)});
  sections.addRow({"file", "", groupedNumber(package.fileBytes()),
                   byteQuantity(package.fileBytes()), percentage(1), ""});
  text += "\n" + sections.text(style);

  TextTable forms({"form", ">sites", ">kernels", ">code images", ">code bytes", ">schedule bytes"});
  for (const PackageSummary::FormCount &f : summary.forms)
    forms.addRow({formName(f.form), groupedNumber(f.sites), groupedNumber(f.kernels),
                  groupedNumber(f.codeImages), groupedNumber(f.codeBytes),
                  f.dataBytes ? groupedNumber(f.dataBytes) : "in code"});
  text += "\n" + forms.text(style);

  TextTable codes({">code", "symbol", "form", "arch", ">registers", ">spill bytes",
                   ">shared memory", ">code bytes"});
  for (uint32_t c = 0; c < package.codeCount(); ++c) {
    const CodeImage &code = package.codeInfo(c);
    codes.addRow({std::to_string(c), code.symbol, formName(code.form), code.arch,
                  std::to_string(code.registers),
                  std::to_string(code.spillStores + code.spillLoads),
                  byteQuantity(code.staticSmem + uint64_t(code.dynamicSmem)),
                  groupedNumber(code.codeBytes)});
  }
  text += "\n" + codes.text(style);

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
          {"toolchain", manifest.toolchain},
          {"toolchain_digest", manifest.toolchainDigest},
          {"remarks", manifest.remarks}};
}

nlohmann::ordered_json summaryJson(const PackageReader &package) {
  PackageSummary summary = summarise(package);
  nlohmann::ordered_json json = {{"path", package.path()}, {"file_bytes", package.fileBytes()}};
  json.update(manifestJson(package.manifest()));
  json["kernels"] = package.kernelCount();
  json["schedule_images"] = package.dataCount();
  json["sites"] = summary.sites;
  json["visits"] = summary.visits;
  json["density"] = {
      {"mean", summary.meanDensity}, {"min", summary.minDensity}, {"max", summary.maxDensity}};
  json["kept_mass"] = {{"mean", summary.meanKeptMass}, {"min", summary.minKeptMass}};
  json["sections"] = nlohmann::ordered_json::array();
  for (const PackageReader::Section &s : package.sections())
    json["sections"].push_back(
        {{"name", s.name}, {"bytes", s.bytes}, {"decoded_bytes", s.rawBytes}, {"count", s.count}});
  json["forms"] = nlohmann::ordered_json::array();
  for (const PackageSummary::FormCount &f : summary.forms)
    json["forms"].push_back({{"form", formName(f.form)},
                             {"sites", f.sites},
                             {"kernels", f.kernels},
                             {"code_images", f.codeImages},
                             {"code_bytes", f.codeBytes},
                             {"schedule_bytes", f.dataBytes}});
  json["code_images"] = nlohmann::ordered_json::array();
  for (uint32_t c = 0; c < package.codeCount(); ++c) {
    const CodeImage &code = package.codeInfo(c);
    json["code_images"].push_back({{"symbol", code.symbol},
                                   {"form", formName(code.form)},
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

// `calibatt profile info`: what a profile, or the counts of a calibration, amount to.
#include "runtime/tools/InfoCommand.h"
#include "calib_profiles/LockedCounts.h"
#include "calib_profiles/ProfileSummary.h"
#include "runtime/inspect/mask/PngFile.h"
#include "runtime/tools/Commands.h"
#include "runtime/tools/CountsReport.h"
#include "runtime/tools/ProfileTables.h"
#include "runtime/tools/Report.h"
#include "runtime/tools/SelectionOutput.h"
#include "runtime/tools/StabilityPage.h"
#include "runtime/usage/Usage.h"

#include <filesystem>
#include <memory>
#include <optional>

namespace calibatt {

namespace {

struct Options {
  std::string input, heldOut, png;
  SelectionArguments selection;
  unsigned jobs = 0;
  bool stability = false, json = false;
};

int profileInfo(const Options &options) {
  Result<ProfileReader> reader = ProfileReader::open(options.input);
  if (!reader)
    return reportFailure(reader.message());
  Result<ProfileSummary> summary = summarise(*reader);
  if (!summary)
    return reportFailure(summary.message());
  const uint64_t bytes = fileSize(options.input);
  if (options.json)
    return printJson(profileJson(options.input, bytes, reader->header(), *summary));
  return printText(profileText(options.input, bytes, reader->header(), *summary, stdoutStyle()));
}

int stability(const Options &options, const CountsReader &counts) {
  std::optional<LockedCounts> heldOut;
  if (!options.heldOut.empty()) {
    Result<LockedCounts> opened = LockedCounts::open(options.heldOut);
    if (!opened)
      return reportFailure(opened.message());
    heldOut.emplace(opened.take());
  }
  const ProfileHeader &h = counts.header();
  Result<StabilityReport> report = [&] {
    ProgressLine progress("heads read", uint64_t(h.layers) * h.heads);
    return analyseStability(counts, heldOut ? &heldOut->counts : nullptr, options.selection.options,
                            options.jobs, [&](uint64_t done) { progress.update(done); });
  }();
  if (!report)
    return reportFailure(report.message());
  nlohmann::ordered_json json = stabilityJson(options.input, *report);
  std::string text = stabilityText(options.input, *report, stdoutStyle());
  if (!options.png.empty()) {
    for (const std::string &input : {options.input, options.heldOut})
      if (std::error_code ignored; std::filesystem::equivalent(options.png, input, ignored))
        return reportFailure(options.png + ": is an input; the page needs another name");
    const Canvas page = stabilityPage(*report);
    Result<uint64_t> bytes = writePng(options.png, page);
    if (!bytes)
      return reportFailure(bytes.message());
    json["png"] = {{"file", options.png},
                   {"width", page.width()},
                   {"height", page.height()},
                   {"bytes", *bytes}};
    text += "\n  " + options.png + ", " + byteQuantity(*bytes) + "\n";
  }
  return options.json ? printJson(json) : printText(text);
}

int info(const Options &options) {
  if (!looksLikeCounts(options.input)) {
    if (options.stability)
      return reportFailure(options.input + ": is not a file of counts, which --stability needs "
                                           "(`calibatt calibrate --counts FILE` keeps them)");
    return profileInfo(options);
  }
  Result<LockedCounts> opened = LockedCounts::open(options.input);
  if (!opened)
    return reportFailure(opened.message());
  if (options.stability)
    return stability(options, opened->counts);
  const uint64_t bytes = fileSize(options.input);
  return options.json ? printJson(countsJson(opened->counts, bytes))
                      : printText(countsText(opened->counts, bytes, stdoutStyle()));
}

} // namespace

void addInfo(CLI::App &profile, int &exitCode) {
  auto options = std::make_shared<Options>();
  CLI::App &command =
      *profile.add_subcommand("info", "What a profile, or counts, amount to; how stable they are");
  command.add_option("profile", options->input, "Profile or counts")->type_name("FILE")->required();
  auto *stability = command.add_flag("--stability", options->stability,
                                     "Of counts: agreement of prompts, IoU of steps, densities");
  command.add_option("--held-out", options->heldOut, "Counts of prompts that were not calibrated")
      ->type_name("COUNTS")
      ->needs(stability);
  command.add_option("--png", options->png, "The stability report as one page")
      ->type_name("FILE")
      ->needs(stability);
  options->selection.addTo(command);
  command.add_option("-j,--jobs", options->jobs, "Threads; 0: one a core")
      ->type_name("N")
      ->check(wholeNumber(0, 256));
  command.add_flag("--json", options->json, "Report as JSON");
  command.callback([options, &exitCode] { exitCode = info(*options); });
}

} // namespace calibatt

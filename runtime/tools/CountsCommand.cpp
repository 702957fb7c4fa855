// Counts -> profile, and counts + counts -> counts.
#include "runtime/tools/CountsCommand.h"
#include "calib_profiles/CountsMerge.h"
#include "runtime/tools/ProfileTables.h"
#include "runtime/tools/Report.h"
#include "runtime/tools/SelectionOutput.h"
#include "runtime/usage/Usage.h"

#include <fmt/format.h>

#include <memory>
#include <mutex>
#include <optional>

namespace calibatt {

namespace {

struct MergeOptions {
  std::vector<std::string> inputs;
  std::string output;
  unsigned jobs = 0;
  bool final = false, json = false;
};

int merge(const MergeOptions &options) {
  Status merged;
  {
    std::optional<ProgressLine> progress;
    std::mutex mutex;
    merged = mergeCounts(options.inputs, options.output,
                         options.final ? CountsKind::Means : CountsKind::Sums, options.jobs,
                         [&](uint64_t done, uint64_t sites) {
                           std::lock_guard lock(mutex);
                           if (!progress)
                             progress.emplace("sites added", sites);
                           progress->update(done);
                         });
  }
  if (!merged)
    return reportFailure(merged.message());
  Result<CountsReader> counts = CountsReader::open(options.output);
  if (!counts)
    return reportFailure(counts.message());
  const uint64_t bytes = fileSize(options.output);
  if (options.json)
    return printJson({{"file", options.output},
                      {"file_bytes", bytes},
                      {"model", counts->header().model},
                      {"prompts", counts->prompts()},
                      {"prompts_hash", counts->header().promptsHash},
                      {"energies", options.final ? "means" : "sums"}});
  TextFields fields;
  fields.add("model", counts->header().model);
  fields.add("prompts", std::to_string(counts->prompts().size()));
  fields.add("energies", options.final ? "means: nothing more can be added" : "sums");
  fields.add("file", fmt::format("{}, {}", options.output, byteQuantity(bytes)));
  return printText(fields.text(stdoutStyle()));
}

} // namespace

void addSelect(CLI::App &profile, int &exitCode) {
  struct Options : ProfileOutputOptions {
    std::string counts;
    SelectionArguments selection;
  };
  auto options = std::make_shared<Options>();
  CLI::App &command = *profile.add_subcommand(
      "select", "Make a profile from counts, with thresholds of your choice; needs no model");
  command.add_option("counts", options->counts, "Counts of a calibration")
      ->type_name("COUNTS")
      ->required();
  options->selection.addTo(command);
  addProfileOutput(command, *options);
  command.callback([options, &exitCode] {
    Result<LockedCounts> opened = LockedCounts::open(options->counts);
    exitCode = opened ? writeSelection(opened->counts, options->selection.options, *options)
                      : reportFailure(opened.message());
  });
}

void addCountsMerge(CLI::App &profile, int &exitCode) {
  auto options = std::make_shared<MergeOptions>();
  CLI::App &command = *profile.add_subcommand(
      "merge", "Add up counts of different prompts; the order does not matter");
  command.add_option("counts", options->inputs, "Counts of one model, size and number of steps")
      ->type_name("COUNTS")
      ->required();
  command.add_option("-o,--output", options->output, "The counts to write")
      ->type_name("FILE")
      ->required();
  command.add_flag("--final", options->final,
                   "Mean energies in a byte each: 2.5 times smaller, but nothing can be added "
                   "any more");
  command.add_option("-j,--jobs", options->jobs, "Threads; 0: one a core")
      ->type_name("N")
      ->check(wholeNumber(0, 256));
  command.add_flag("--json", options->json, "Report as JSON");
  command.callback([options, &exitCode] { exitCode = merge(*options); });
}

} // namespace calibatt

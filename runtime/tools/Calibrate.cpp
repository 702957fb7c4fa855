// `calibatt calibrate DUMP... -o PROFILE`: measures a profile from Q and K.
#include "calib_profiles/Calibration.h"
#include "runtime/tools/Commands.h"
#include "runtime/tools/ProfileOutput.h"
#include "runtime/tools/ProfileTables.h"
#include "runtime/tools/Report.h"
#include "runtime/tools/SelectionOutput.h"

#include <CLI/CLI.hpp>

#include <filesystem>
#include <memory>

namespace calibatt {

namespace {

struct Options : ProfileOutputOptions {
  std::vector<std::string> dumps;
  std::string counts;
  CalibrationOptions calibration;
};

/// Through a counts file, which stays; what it has already is not measured again.
int calibrateWithCounts(const Options &options, const Calibration &calibration) {
  const std::string &path = options.counts;
  Result<CountsLock> lock = CountsLock::forWriting(path);
  if (!lock)
    return reportFailure(lock.message());
  if (std::error_code ignored; !std::filesystem::exists(path, ignored))
    if (Status s = CountsAccumulator::createFile(path, calibration.header()); !s)
      return reportFailure(s.message());
  Result<CountsAccumulator> counts = CountsAccumulator::open(path, lock.take());
  if (!counts)
    return reportFailure(counts.message());
  {
    ProgressLine progress("sites measured",
                          calibration.prompts() * counts->counts().layout().sites);
    if (Status s = calibration.countInto(*counts, options.jobs,
                                         [&](uint64_t done) { progress.update(done); });
        !s)
      return reportFailure(s.message());
  }
  SelectionOptions selection;
  selection.rho = options.calibration.rho;
  selection.gamma = options.calibration.gamma;
  return writeSelection(counts->counts(), selection, options);
}

} // namespace

void addCalibrate(CLI::App &app, int &exitCode) {
  auto options = std::make_shared<Options>();
  CalibrationOptions &calibration = options->calibration;
  CLI::App &command = *app.add_subcommand(
      "calibrate", "Measure a profile from dumps of Q and K, one file a prompt, on the CPU");
  command.add_option("dumps", options->dumps, "Safetensors files of Q and K")
      ->type_name("DUMP")
      ->required();
  command.add_option("--model", calibration.model, "Model id instead of the dumps'")
      ->type_name("NAME");
  command
      .add_option("--rho", calibration.rho, "Keep a block where this share of the prompts kept it")
      ->type_name("SHARE")
      ->capture_default_str();
  command
      .add_option("--gamma", calibration.gamma,
                  "A head is repetitive where its score is at least this")
      ->type_name("COSINE")
      ->capture_default_str();
  command.add_option("--anchors", calibration.anchors, "Anchor rows a frame")
      ->type_name("N")
      ->capture_default_str();
  command
      .add_option("--a", calibration.a,
                  "Energy kept in late steps; default: by tokens and number of steps")
      ->type_name("SHARE");
  command.add_option("--c", calibration.c, "Energy kept in the first step")->type_name("SHARE");
  command.add_option("--k", calibration.k, "How fast the energy falls from c to a")
      ->type_name("RATE");
  command
      .add_option("--counts", options->counts,
                  "Keep the counts in FILE, for `profile select` and `profile merge`; prompts it "
                  "has already are not measured again")
      ->type_name("FILE");
  addProfileOutput(command, *options);
  command.callback([options, &exitCode] {
    Result<Calibration> calibration = Calibration::open(options->dumps, options->calibration);
    if (!calibration) {
      exitCode = reportFailure(calibration.message());
      return;
    }
    if (!options->counts.empty()) {
      exitCode = calibrateWithCounts(*options, *calibration);
      return;
    }
    const ProfileHeader &header = calibration->header();
    exitCode = writeProfile("heads calibrated", *options, header, [&](uint64_t index) {
      return calibration->head(uint32_t(index / header.heads), uint32_t(index % header.heads));
    });
  });
}

} // namespace calibatt

// `calibatt profile`: making and converting profiles here, the other subcommands in files of their
// own.
#include "calib_profiles/BitmapImport.h"
#include "calib_profiles/Synthesis.h"
#include "runtime/tools/Commands.h"
#include "runtime/tools/CountsCommand.h"
#include "runtime/tools/InfoCommand.h"
#include "runtime/tools/ProfileOutput.h"
#include "runtime/tools/Report.h"
#include "runtime/usage/Usage.h"

#include <memory>

namespace calibatt {

namespace {

void addSynth(CLI::App &profile, int &exitCode) {
  struct Options : ProfileOutputOptions {
    SynthesisOptions synthesis;
  };
  auto options = std::make_shared<Options>();
  CLI::App &command =
      *profile.add_subcommand("synth", "Make a profile from the geometry of a video's tokens");
  std::vector<std::string> presets;
  for (const SynthesisPreset &preset : synthesisPresets())
    presets.push_back(preset.name);
  addChoice(*command.add_option("--preset", options->synthesis.preset, "Model and video size")
                 ->required(),
            presets);
  command
      .add_option("--layers", options->synthesis.layers,
                  "Make N layers, spread evenly over the model")
      ->type_name("N")
      ->check(wholeNumber(1, UINT32_MAX));
  command.add_option("--heads", options->synthesis.heads, "Make the first N heads")
      ->type_name("N")
      ->check(wholeNumber(1, UINT32_MAX));
  command
      .add_option("--steps", options->synthesis.steps,
                  "Make N steps, spread evenly over the schedule")
      ->type_name("N")
      ->check(wholeNumber(1, UINT32_MAX));
  command.add_option("--seed", options->synthesis.seed, "Another seed, another profile")
      ->type_name("N");
  addProfileOutput(command, *options);
  command.callback([options, &exitCode] {
    Result<Synthesis> synthesis = Synthesis::create(options->synthesis);
    if (!synthesis) {
      exitCode = reportFailure(synthesis.message());
      return;
    }
    const ProfileHeader &header = synthesis->header();
    exitCode =
        writeProfile("heads made", *options, header, [&](uint64_t index) -> Result<HeadProfile> {
          return synthesis->head(uint32_t(index / header.heads), uint32_t(index % header.heads));
        });
  });
}

void addImport(CLI::App &profile, int &exitCode) {
  struct Options : ProfileOutputOptions {
    std::string input, model;
  };
  auto options = std::make_shared<Options>();
  CLI::App &command =
      *profile.add_subcommand("import", "Convert plain bitmaps (mask/<layer>/<step>) to a profile");
  command.add_option("masks", options->input, "Safetensors file of bitmaps")
      ->type_name("FILE")
      ->required();
  command.add_option("--model", options->model, "Model id instead of the file's")
      ->type_name("NAME");
  addProfileOutput(command, *options);
  command.callback([options, &exitCode] {
    Result<BitmapReader> bitmaps = BitmapReader::open(options->input);
    if (!bitmaps) {
      exitCode = reportFailure(bitmaps.message());
      return;
    }
    ProfileHeader header = bitmaps->header();
    if (!options->model.empty())
      header.model = options->model;
    exitCode = writeProfile("heads read", *options, header, [&](uint64_t index) {
      return bitmaps->head(uint32_t(index / header.heads), uint32_t(index % header.heads));
    });
  });
}

} // namespace

void addProfile(CLI::App &app, int &exitCode) {
  CLI::App &profile =
      *app.add_subcommand("profile", "Make, read, select, merge and convert profiles");
  profile.require_subcommand(1);
  addSynth(profile, exitCode);
  addInfo(profile, exitCode);
  addSelect(profile, exitCode);
  addCountsMerge(profile, exitCode);
  addImport(profile, exitCode);
}

} // namespace calibatt

// Selecting a profile from counts, for every command that does: options, work, report.
#pragma once

#include "calib_profiles/CountsSelection.h"
#include "runtime/tools/ProfileOutput.h"

#include <string>

namespace calibatt {

/// Options of a selection as the command line has them.
struct SelectionArguments {
  SelectionOptions options;
  std::string denoise; ///< "hysteresis=0.1,singletons=0.25"

  /// Registers --rho, --gamma, --denoise and --model.
  void addTo(CLI::App &command);
};

/// Writes the profile selected from `counts`, and prints its summary with what each
/// rule against noise cost. Returns the exit code; on failure there is no file.
int writeSelection(const CountsReader &counts, const SelectionOptions &selection,
                   const ProfileOutputOptions &output);

} // namespace calibatt

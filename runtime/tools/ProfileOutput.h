// What every command that writes a profile shares: its options, and making heads
// in parallel with a progress line and a report at the end.
#pragma once

#include "calib_profiles/HeadStream.h"

#include <string>

namespace CLI {
class App;
}

namespace calibatt {

struct ProfileOutputOptions {
  std::string output;
  unsigned jobs = 0;
  bool json = false;
};

/// Registers -o, -j and --json; `options` outlives the parsing.
void addProfileOutput(CLI::App &command, ProfileOutputOptions &options);

/// Writes a profile whose heads `produce` makes, index = layer * heads + head,
/// and prints its summary. Returns the exit code; on failure there is no file.
int writeProfile(const std::string &progressName, const ProfileOutputOptions &options,
                 const ProfileHeader &header, const ProduceHead &produce);

} // namespace calibatt

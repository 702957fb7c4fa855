// What every command that writes a profile shares: its options, and making heads
// in parallel with a progress line and a report at the end.
#pragma once

#include "calib_profiles/HeadStream.h"
#include "runtime/inspect/TextTable.h"

#include <nlohmann/json.hpp>

#include <functional>
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

/// What a command has to say after the profile's summary, once it is written.
struct ReportMore {
  std::function<std::string(const TextStyle &style)> text;
  std::function<void(nlohmann::ordered_json &report)> json;
};

/// Writes a profile whose heads `produce` makes, index = layer * heads + head,
/// and prints its summary. Returns the exit code; on failure there is no file.
int writeProfile(const std::string &progressName, const ProfileOutputOptions &options,
                 const ProfileHeader &header, const ProduceHead &produce,
                 const ReportMore &more = {});

} // namespace calibatt

// `calibatt profile info`.
#pragma once

namespace CLI {
class App;
}

namespace calibatt {

/// Adds the subcommand to `profile`, as the functions of Commands.h do.
void addInfo(CLI::App &profile, int &exitCode);

} // namespace calibatt

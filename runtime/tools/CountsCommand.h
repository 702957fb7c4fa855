// `calibatt profile select` and `calibatt profile merge`: what is done with counts.
#pragma once

namespace CLI {
class App;
}

namespace calibatt {

/// Each adds one subcommand to `profile`, as the functions of Commands.h do.
void addSelect(CLI::App &profile, int &exitCode);
void addCountsMerge(CLI::App &profile, int &exitCode);

} // namespace calibatt

// `calibatt check`.
#pragma once

namespace CLI {
class App;
}

namespace calibatt {

/// Adds the subcommand; its callback sets `exitCode`, as those of Commands.h do.
void addCheck(CLI::App &app, int &exitCode);

} // namespace calibatt

// `calibatt inspect mask`.
#pragma once

namespace CLI {
class App;
}

namespace calibatt {

/// Adds `mask` to `inspect`; as the functions of Commands.h do.
void addMask(CLI::App &inspect, int &exitCode);

} // namespace calibatt

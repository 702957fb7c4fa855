// The commands of `calibatt`, one function a subcommand. Each registers its
// options and a callback that does the work, prints, and sets the exit code.
#pragma once

namespace CLI {
class App;
}

namespace calibatt {

/// Exit codes of both binaries.
constexpr int kExitDone = 0;
/// The input is bad or the work failed; the reason is on stderr.
constexpr int kExitFailed = 1;
/// The command line is wrong.
constexpr int kExitUsage = 2;

/// Each adds one subcommand to `app`; its callback sets `exitCode`, which the
/// caller initialises to kExitDone and keeps alive while `app` parses.
void addCalibrate(CLI::App &app, int &exitCode);
void addProfile(CLI::App &app, int &exitCode);
void addInspect(CLI::App &app, int &exitCode);
void addVerify(CLI::App &app, int &exitCode);
void addBench(CLI::App &app, int &exitCode);

/// Lists `compile` among the subcommands; the work is runCompiler's.
void addCompile(CLI::App &app);
/// Replaces this process by `calibatt-compile` (beside this program, else on
/// PATH) with `arguments`, unread. Returns, with an exit code and the reason on
/// stderr, only where there is none.
int runCompiler(char **arguments);

} // namespace calibatt

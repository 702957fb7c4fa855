// calibatt: everything about profiles and packages that needs neither LLVM nor
// CUDA. `calibatt compile` hands over to calibatt-compile, which needs both.
#include "runtime/tools/CacheCommand.h"
#include "runtime/tools/CheckCommand.h"
#include "runtime/tools/Commands.h"
#include "runtime/tools/MergeCommand.h"
#include "runtime/usage/Usage.h"

#include <cstdio>
#include <exception>
#include <string_view>

namespace calibatt {

static int runCommandLine(int argc, char **argv) {
  // The compiler reads its own options, --help included.
  if (argc > 1 && std::string_view(argv[1]) == "compile")
    return runCompiler(argv + 2);

  CLI::App app("Calibrated sparse attention: profiles, packages, verification", "calibatt");
  app.set_version_flag("--version", "calibatt " CALIBATT_VERSION);
  app.require_subcommand(1);
  shortenHelp(app);
  app.footer("Exit codes: 0 done, 1 the input or the work failed, 2 usage, 130 interrupted.");

  int exitCode = kExitDone;
  addCalibrate(app, exitCode);
  addProfile(app, exitCode);
  addCompile(app);
  addMerge(app, exitCode);
  addInspect(app, exitCode);
  addVerify(app, exitCode);
  addCheck(app, exitCode);
  addBench(app, exitCode);
  addCache(app, exitCode);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError &error) {
    return reportParseError(app, error);
  } catch (const std::exception &error) {
    std::fprintf(stderr, "calibatt: error: %s\n", error.what());
    return kExitFailed;
  }
  return exitCode;
}

} // namespace calibatt

int main(int argc, char **argv) { return calibatt::runCommandLine(argc, argv); }

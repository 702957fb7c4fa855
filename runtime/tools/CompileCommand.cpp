// `calibatt compile`: finds calibatt-compile and becomes it.
#include "runtime/tools/Commands.h"

#include <CLI/CLI.hpp>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <unistd.h>
#include <vector>

namespace calibatt {

void addCompile(CLI::App &app) {
  app.add_subcommand("compile", "Profile -> package; runs calibatt-compile, which has the options");
}

/// The folder of this program with a trailing slash, or empty where /proc does not say.
static std::string programFolder() {
  char path[4096];
  ssize_t length = readlink("/proc/self/exe", path, sizeof path);
  if (length <= 0 || size_t(length) == sizeof path)
    return {};
  std::string folder(path, size_t(length));
  return folder.substr(0, folder.rfind('/') + 1);
}

int runCompiler(char **arguments) {
  const char *name = "calibatt-compile";
  std::string beside = programFolder() + name;
  std::vector<char *> argv{const_cast<char *>(name)};
  for (; *arguments; ++arguments)
    argv.push_back(*arguments);
  argv.push_back(nullptr);

  std::fflush(nullptr);
  execv(beside.c_str(), argv.data());
  int why = errno;
  if (why == ENOENT) {
    execvp(name, argv.data());
    why = errno;
  }
  if (why == ENOENT)
    std::fprintf(stderr,
                 "calibatt: error: calibatt-compile: not found beside this program (%s) nor on "
                 "PATH; compiling needs the build with -DCALIBATT_BUILD_COMPILER=ON, a package it "
                 "made can be used here\n",
                 beside.c_str());
  else
    std::fprintf(stderr, "calibatt: error: %s: cannot run: %s\n", beside.c_str(),
                 std::strerror(why));
  return kExitFailed;
}

} // namespace calibatt

#include "test/tools/compile/CompileRun.h"

#include <algorithm>
#include <doctest/doctest.h>

namespace calibatt::test {

ProfileFolder::ProfileFolder() {
  ToolRun run = runTool({"profile", "synth", "--preset", "tiny", "--layers", "2", "--heads", "2",
                         "--steps", "2", "-o", profile});
  REQUIRE_MESSAGE(run.exitCode == 0, run.err);
}

std::vector<std::string> ProfileFolder::names() const {
  std::vector<std::string> found;
  for (const auto &entry : std::filesystem::directory_iterator(path))
    found.push_back(entry.path().filename().string());
  std::sort(found.begin(), found.end());
  return found;
}

ToolRun runCompile(const std::vector<std::string> &arguments,
                   const std::vector<std::string> &environment) {
  return runProgram(CALIBATT_COMPILE, arguments, environment);
}

nlohmann::json compileJson(std::vector<std::string> arguments) {
  arguments.push_back("--json");
  ToolRun run = runCompile(arguments);
  REQUIRE_MESSAGE(run.exitCode == 0, run.err);
  return nlohmann::json::parse(run.out);
}

} // namespace calibatt::test

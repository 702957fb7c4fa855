// A small profile and runs of calibatt-compile on it.
#pragma once

#include "test/tools/ToolRun.h"

#include <nlohmann/json.hpp>

namespace calibatt::test {

/// A folder with a synthetic profile of 2 layers, 2 heads and 2 steps.
struct ProfileFolder : TemporaryFolder {
  ProfileFolder();
  /// Names in the folder, sorted.
  std::vector<std::string> names() const;

  std::string profile = file("p.calib.safetensors");
};

/// calibatt-compile with these arguments.
ToolRun runCompile(const std::vector<std::string> &arguments,
                   const std::vector<std::string> &environment = {});
/// The same with --json added; checks that it ended well and parses what it printed.
nlohmann::json compileJson(std::vector<std::string> arguments);

} // namespace calibatt::test

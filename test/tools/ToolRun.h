// Runs the real binary and keeps what it printed; folders that go away.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace calibatt::test {

/// A new empty folder, removed with everything in it.
class TemporaryFolder {
public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder &) = delete;
  TemporaryFolder &operator=(const TemporaryFolder &) = delete;
  std::string file(const std::string &name) const { return (path / name).string(); }

  std::filesystem::path path;
};

struct ToolRun {
  int exitCode = -1; ///< or 128 + the signal that ended it
  std::string out, err;
};

/// Runs `program` with arguments and, added to the environment, "NAME=VALUE" entries.
ToolRun runProgram(const std::string &program, const std::vector<std::string> &arguments,
                   const std::vector<std::string> &environment = {});
/// The same with stdin, stdout and stderr on a terminal of so many columns; what
/// it prints is in `out`, line ends as the program wrote them.
ToolRun runOnTerminal(const std::string &program, const std::vector<std::string> &arguments,
                      unsigned columns, const std::vector<std::string> &environment = {});
/// The calibatt binary of this build.
std::string toolPath();
inline ToolRun runTool(const std::vector<std::string> &arguments,
                       const std::vector<std::string> &environment = {}) {
  return runProgram(toolPath(), arguments, environment);
}

std::vector<uint8_t> readBytes(const std::string &path);
void writeBytes(const std::string &path, const std::vector<uint8_t> &bytes);
inline bool contains(const std::string &text, const std::string &part) {
  return text.find(part) != std::string::npos;
}

} // namespace calibatt::test

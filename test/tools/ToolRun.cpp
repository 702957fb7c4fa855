// Processes and folders for the tests of the command line.
#include "test/tools/ToolRun.h"

#include <cstdlib>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <fstream>
#include <iterator>
#include <pty.h>
#include <spawn.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

extern char **environ;

namespace calibatt::test {

TemporaryFolder::TemporaryFolder() {
  std::string name = (std::filesystem::temp_directory_path() / "calibatt-tools-XXXXXX").string();
  REQUIRE(mkdtemp(name.data()) != nullptr);
  path = name;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path, ignored);
}

namespace {

/// What exec(3) wants; the strings given have to outlive it.
struct ProgramStart {
  std::vector<char *> argv, envp;

  ProgramStart(const std::string &program, const std::vector<std::string> &arguments,
               const std::vector<std::string> &environment) {
    argv.push_back(const_cast<char *>(program.c_str()));
    for (const std::string &argument : arguments)
      argv.push_back(const_cast<char *>(argument.c_str()));
    argv.push_back(nullptr);
    // The first entry of a name is the one that counts.
    for (const std::string &entry : environment)
      envp.push_back(const_cast<char *>(entry.c_str()));
    // No test leans on what another, or the user, has compiled.
    static char noCache[] = "CALIBATT_CACHE=";
    envp.push_back(noCache);
    for (char **entry = environ; *entry; ++entry)
      envp.push_back(*entry);
    envp.push_back(nullptr);
  }
};

int exitCodeOf(pid_t child) {
  int state = 0;
  REQUIRE(waitpid(child, &state, 0) == child);
  return WIFEXITED(state) ? WEXITSTATUS(state) : 128 + WTERMSIG(state);
}

} // namespace

ToolRun runOnTerminal(const std::string &program, const std::vector<std::string> &arguments,
                      unsigned columns, const std::vector<std::string> &environment) {
  ProgramStart start(program, arguments, environment);
  winsize size = {};
  size.ws_row = 24;
  size.ws_col = static_cast<unsigned short>(columns);
  termios settings = {};
  cfmakeraw(&settings);
  int terminal = -1;
  const pid_t child = forkpty(&terminal, nullptr, &settings, &size);
  REQUIRE(child >= 0);
  if (child == 0) {
    execve(program.c_str(), start.argv.data(), start.envp.data());
    _exit(127);
  }
  ToolRun run;
  char buffer[4096];
  // Reading fails with EIO once the program has closed its end.
  for (ssize_t n; (n = read(terminal, buffer, sizeof buffer)) > 0;)
    run.out.append(buffer, size_t(n));
  close(terminal);
  run.exitCode = exitCodeOf(child);
  return run;
}

ToolRun runProgram(const std::string &program, const std::vector<std::string> &arguments,
                   const std::vector<std::string> &environment) {
  TemporaryFolder folder;
  std::string out = folder.file("out"), err = folder.file("err");
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, out.c_str(), O_WRONLY | O_CREAT, 0600);
  posix_spawn_file_actions_addopen(&actions, 2, err.c_str(), O_WRONLY | O_CREAT, 0600);

  ProgramStart start(program, arguments, environment);
  pid_t child = 0;
  int failed =
      posix_spawn(&child, program.c_str(), &actions, nullptr, start.argv.data(), start.envp.data());
  posix_spawn_file_actions_destroy(&actions);
  REQUIRE(failed == 0);
  ToolRun run;
  run.exitCode = exitCodeOf(child);
  auto text = [](const std::string &path) {
    std::vector<uint8_t> bytes = readBytes(path);
    return std::string(bytes.begin(), bytes.end());
  };
  run.out = text(out);
  run.err = text(err);
  return run;
}

std::string toolPath() { return CALIBATT_TOOL; }

std::vector<uint8_t> readBytes(const std::string &path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

void writeBytes(const std::string &path, const std::vector<uint8_t> &bytes) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out.write(reinterpret_cast<const char *>(bytes.data()), std::streamsize(bytes.size()));
  REQUIRE(out.good());
}

} // namespace calibatt::test

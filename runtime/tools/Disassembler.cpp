// Finds a disassembler, gives it the cubin in a temporary file, reads what it prints.
#include "runtime/tools/Disassembler.h"

#include "runtime/format/CubinPatch.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fmt/format.h>
#include <span>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

namespace calibatt {
namespace {

/// Folders of PATH, then $CUDA_HOME/bin, then where the toolkit installs itself.
std::vector<std::string> programFolders() {
  std::vector<std::string> folders;
  const char *path = std::getenv("PATH");
  std::string list = path ? path : "";
  for (size_t begin = 0; begin <= list.size();) {
    size_t end = std::min(list.find(':', begin), list.size());
    if (end > begin)
      folders.push_back(list.substr(begin, end - begin));
    begin = end + 1;
  }
  if (const char *home = std::getenv("CUDA_HOME"))
    folders.push_back(std::string(home) + "/bin");
  folders.push_back("/usr/local/cuda/bin");
  return folders;
}

std::string findProgram(const std::string &name) {
  for (const std::string &folder : programFolders()) {
    std::string path = std::filesystem::path(folder) / name;
    if (access(path.c_str(), X_OK) == 0)
      return path;
  }
  return {};
}

/// A file that is removed when it goes out of scope.
class TemporaryFile {
public:
  Status write(std::span<const uint8_t> bytes) {
    const char *folder = std::getenv("TMPDIR");
    path = std::string(folder && *folder ? folder : "/tmp") + "/calibatt-XXXXXX";
    int fd = mkstemp(path.data());
    if (fd < 0) {
      Error error{fmt::format("{}: cannot make a temporary file: {}", path, std::strerror(errno))};
      path.clear();
      return error;
    }
    size_t done = 0;
    while (done < bytes.size()) {
      ssize_t n = ::write(fd, bytes.data() + done, bytes.size() - done);
      if (n < 0 && errno == EINTR)
        continue;
      if (n < 0)
        break;
      done += size_t(n);
    }
    int why = errno;
    close(fd);
    if (done < bytes.size())
      return Error{fmt::format("{}: cannot write: {}", path, std::strerror(why))};
    return {};
  }
  ~TemporaryFile() {
    if (!path.empty())
      unlink(path.c_str());
  }
  std::string path;
};

/// Runs a program and returns what it printed on either stream.
Result<std::string> runProgram(const std::vector<std::string> &command) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0)
    return Error{fmt::format("{}: cannot make a pipe: {}", command[0], std::strerror(errno))};
  std::vector<char *> argv;
  argv.reserve(command.size() + 1);
  for (const std::string &word : command)
    argv.push_back(const_cast<char *>(word.c_str()));
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDERR_FILENO);
  pid_t child = 0;
  int failed = posix_spawn(&child, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  close(ends[1]);
  std::string output;
  char buffer[1 << 14];
  for (ssize_t n; !failed && (n = read(ends[0], buffer, sizeof buffer)) != 0;) {
    if (n > 0)
      output.append(buffer, size_t(n));
    else if (errno != EINTR)
      break;
  }
  close(ends[0]);
  if (failed)
    return Error{fmt::format("{}: cannot run: {}", command[0], std::strerror(failed))};
  int state = 0;
  while (waitpid(child, &state, 0) < 0 && errno == EINTR) {
  }
  if (!WIFEXITED(state) || WEXITSTATUS(state) != 0)
    return Error{fmt::format("{} failed: {}", command[0], output)};
  return output;
}

} // namespace

Result<std::string> disassemble(const std::vector<uint8_t> &fatbin, const std::string &arch) {
  auto cubin = findCubin(fatbin);
  if (!cubin)
    return cubin.takeError();
  std::string nvdisasm = findProgram("nvdisasm"), cuobjdump = findProgram("cuobjdump");
  if (nvdisasm.empty() && cuobjdump.empty())
    return Error{fmt::format("no disassembler: neither nvdisasm nor cuobjdump is on PATH, in "
                             "$CUDA_HOME/bin or in /usr/local/cuda/bin; `inspect extract` writes "
                             "the {} cubin for one",
                             arch)};
  TemporaryFile file;
  if (Status s = file.write(*cubin); !s)
    return s.takeError();
  return nvdisasm.empty() ? runProgram({cuobjdump, "-sass", file.path})
                          : runProgram({nvdisasm, "--print-code", file.path});
}

} // namespace calibatt

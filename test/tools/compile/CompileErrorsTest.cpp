// What calibatt-compile refuses, in which words, and what it leaves behind: nothing.
#include "test/tools/compile/CompileRun.h"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <doctest/doctest.h>
#include <spawn.h>
#include <sys/wait.h>
#include <thread>

extern char **environ;

using namespace calibatt::test;

static const std::vector<std::string> kProfileOnly{"p.calib.safetensors"};

static size_t lines(const std::string &text) {
  return size_t(std::count(text.begin(), text.end(), '\n'));
}

TEST_CASE("a wrong command line of the compiler exits with 2") {
  ProfileFolder folder;
  std::string out = folder.file("m.calibatt");
  const std::vector<std::vector<std::string>> wrong = {
      {},
      {folder.profile},
      {folder.profile, "-o", out, "--form", "half"},
      {folder.profile, "-o", out, "--granularity", "layer"},
      {folder.profile, "-o", out, "--unroll-budget", "many"},
      {folder.profile, "-o", out, "--unroll-budget", "65536,"},
      {folder.profile, "-o", out, "--unroll-budget", "-1"},
      {folder.profile, "-o", out, "--share-steps", "0"},
      {folder.profile, "-o", out, "--share-steps", "1.5"},
      {folder.profile, "-o", out, "-j", "0"},
      {folder.profile, "-o", out, "--frobnicate"},
      {folder.profile, folder.profile, "-o", out},
  };
  for (const auto &arguments : wrong) {
    std::string last = arguments.empty() ? "no arguments" : arguments.back();
    INFO(last);
    ToolRun run = runCompile(arguments);
    CHECK(run.exitCode == 2);
    CHECK(run.out == "");
    CHECK(run.err != "");
  }
  CHECK(folder.names() == kProfileOnly);
}

TEST_CASE("what cannot be compiled fails with 1, one line that names it, and no file") {
  ProfileFolder folder;
  std::string out = folder.file("m.calibatt");
  struct Case {
    std::vector<std::string> arguments;
    std::string named;
  };
  const std::vector<Case> cases = {
      {{folder.file("none.calib.safetensors"), "-o", out}, "none.calib.safetensors"},
      {{folder.profile, "-o", out, "--arch", "sm_80"}, "sm_80"},
      {{folder.profile, "-o", folder.file("no/m.calibatt")}, "no/m.calibatt"},
      {{folder.profile, "-o", folder.path.string()}, folder.path.string()},
      {{folder.profile, "-o", folder.profile}, "is the profile"},
      {{folder.profile, "-o", out, "--cache", folder.profile}, "cache folder"},
      {{folder.profile, "-o", out, "--dump-ir", folder.profile + "/x"}, "/x"},
      {{folder.profile, "-o", out, "--report", folder.file("no/r.json")}, "no/r.json"},
      {{"/dev/null", "-o", out}, "/dev/null"},
  };
  for (const Case &c : cases) {
    INFO(c.named);
    ToolRun run = runCompile(c.arguments);
    CHECK(run.exitCode == 1);
    CHECK(run.out == "");
    CHECK_MESSAGE(contains(run.err, c.named), run.err);
    CHECK(run.err.starts_with("calibatt-compile: error: "));
    CHECK(lines(run.err) == 1);
  }
  CHECK(folder.names() == kProfileOnly);
}

TEST_CASE("without NVRTC the compiler says so in one line") {
  ProfileFolder folder;
  ToolRun run = runCompile({folder.profile, "-o", folder.file("m.calibatt")},
                           {"CALIBATT_NVRTC=/nonexistent/libnvrtc.so"});
  CHECK(run.exitCode == 1);
  CHECK(contains(run.err, "/nonexistent/libnvrtc.so"));
  CHECK(lines(run.err) == 1);
  CHECK(folder.names() == kProfileOnly);
}

TEST_CASE("a damaged profile fails by its own name and leaves no package") {
  ProfileFolder folder;
  const std::vector<uint8_t> good = readBytes(folder.profile);
  for (size_t keep : {size_t(0), size_t(7), good.size() / 2, good.size() - 1}) {
    INFO(keep, " of ", good.size(), " bytes");
    writeBytes(folder.profile, {good.begin(), good.begin() + ptrdiff_t(keep)});
    ToolRun run = runCompile({folder.profile, "-o", folder.file("m.calibatt")});
    CHECK(run.exitCode == 1);
    CHECK_MESSAGE(contains(run.err, "p.calib.safetensors"), run.err);
  }
  CHECK(folder.names() == kProfileOnly);
}

TEST_CASE("an interrupted compile ends with 1 and leaves no file") {
  ProfileFolder folder;
  std::string out = folder.file("m.calibatt"), cache = folder.file("cache");
  std::vector<std::string> arguments = {CALIBATT_COMPILE, folder.profile, "-o",      out,
                                        "--form",         "full",         "--cache", cache};
  std::vector<char *> argv;
  for (std::string &argument : arguments)
    argv.push_back(argument.data());
  argv.push_back(nullptr);
  pid_t child = 0;
  REQUIRE(posix_spawn(&child, argv[0], nullptr, nullptr, argv.data(), environ) == 0);
  // The cache folder appears when the tools are open: the handler is in place by then,
  // and `full` kernels take many seconds.
  auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (!std::filesystem::exists(cache) && std::chrono::steady_clock::now() < deadline)
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  REQUIRE(kill(child, SIGINT) == 0);
  int state = 0;
  REQUIRE(waitpid(child, &state, 0) == child);
  REQUIRE(WIFEXITED(state));
  CHECK(WEXITSTATUS(state) == 1);
  CHECK(folder.names() == std::vector<std::string>{"cache", "p.calib.safetensors"});
}

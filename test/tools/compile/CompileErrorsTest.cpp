// What calibatt-compile refuses, in which words, and what it leaves behind: nothing.
#include "test/tools/compile/CompileRun.h"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <doctest/doctest.h>
#include <filesystem>
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

TEST_CASE("what is mistyped in a compile is named, with what is nearest to it") {
  ProfileFolder folder;
  const std::string out = folder.file("m.calibatt");
  struct Case {
    std::vector<std::string> arguments;
    std::string wanted;
  };
  const Case cases[] = {
      {{"--fomr", "full"}, "calibatt-compile has no option --fomr; did you mean --form?"},
      {{"--form", "ful"},
       "--form: got \"ful\", wanted auto, full, schedule, runs or table; did you mean full?"},
      {{"--unroll-budget", "much"}, "--unroll-budget: got \"much\", wanted BYTES[,SECONDS]"},
      {{"--cache-limit", "-1"}, "--cache-limit: got \"-1\", wanted bytes"},
      {{"--heads", "3"}, "--heads requires --calibration"},
      {{"--quiet", "--json"}, "exclude each other"},
      {{"another"}, "\"another\" was not expected"},
  };
  for (const Case &test : cases) {
    std::vector<std::string> arguments = {folder.profile, "-o", out};
    arguments.insert(arguments.end(), test.arguments.begin(), test.arguments.end());
    const ToolRun run = runCompile(arguments);
    CHECK(run.exitCode == 2);
    CHECK_MESSAGE(run.err.starts_with("calibatt-compile: error: "), run.err);
    CHECK_MESSAGE(contains(run.err, test.wanted), run.err);
  }
  const ToolRun scale =
      runCompile({"--calibration", "--grid", "3x7x20", "--heads", "2", "--scale", "-1", "-o", out});
  CHECK(scale.exitCode == 2);
  CHECK_MESSAGE(contains(scale.err, "--scale: got \"-1\", wanted a number above 0"), scale.err);
  CHECK(folder.names() == kProfileOnly);
}

TEST_CASE("--quiet prints warnings alone, and --warnings-as-errors leaves no package") {
  ProfileFolder folder;
  const std::string out = folder.file("m.calibatt"), cache = folder.file("cache");
  std::vector<std::string> full = {folder.profile,    "-o", out,       "--form",   "full",
                                   "--unroll-budget", "1",  "--quiet", "--dry-run"};
  const ToolRun warned = runCompile(full);
  CHECK(warned.exitCode == 0);
  CHECK(warned.out == "");
  CHECK(contains(warned.err, "over the budget"));
  CHECK(!contains(warned.err, "remark"));
  full.push_back("--warnings-as-errors");
  const ToolRun refused = runCompile(full);
  CHECK(refused.exitCode == 1);
  CHECK_MESSAGE(contains(refused.err, "--warnings-as-errors: no package"), refused.err);
  full.erase(full.end() - 2); // no dry run
  CHECK(runCompile(full).exitCode == 1);
  CHECK_FALSE(std::filesystem::exists(out));
  const ToolRun good = runCompile({folder.profile, "-o", out, "--form", "runs", "-q",
                                   "--warnings-as-errors", "--cache", cache});
  CHECK_MESSAGE(good.exitCode == 0, good.err);
  CHECK(good.out + good.err == "");
  CHECK(std::filesystem::exists(out));
}

TEST_CASE("a compile that Ctrl-C interrupts ends with 130 and leaves no file") {
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
  CHECK(WEXITSTATUS(state) == 130);
  CHECK(folder.names() == std::vector<std::string>{"cache", "p.calib.safetensors"});
}

// Exit codes, the handover to the compiler, and what the binary links.
#include "test/tools/ToolRun.h"

#include <doctest/doctest.h>
#include <filesystem>
#include <fstream>

using namespace calibatt::test;

TEST_CASE("a wrong command line exits with 2 and says why on stderr") {
  TemporaryFolder folder;
  const std::vector<std::vector<std::string>> wrong = {
      {},
      {"frobnicate"},
      {"--frobnicate"},
      {"inspect"},
      {"inspect", "info"},
      {"inspect", "ls", "p.calibatt", "--layer", "one"},
      {"inspect", "ls", "p.calibatt", "--layer", "-1"},
      {"inspect", "show", "p.calibatt", "0,0,0", "--cuda", "--ptx"},
      {"inspect", "show", "p.calibatt", "0,0,0", "--layer", "1"},
      {"inspect", "extract", "p.calibatt", "0,0,0"},
      {"inspect", "mask"},
      {"inspect", "mask", "p.calibatt", "0,0,0", "--scale", "0"},
      {"inspect", "mask", "p.calibatt", "0,0,0", "--characters", "runes"},
      {"inspect", "mask", "p.calibatt", "0,*,0", "--head", "1"},
      {"verify"},
      {"verify", "p.calibatt", "--device", "tpu"},
      {"verify", "p.calibatt", "--frobnicate"},
      {"bench", "p.calibatt", "--runs", "0"},
      {"bench", "p.calibatt", "--device", "tpu"},
      {"calibrate"},
      {"profile"},
  };
  for (const auto &arguments : wrong) {
    std::string line;
    for (const std::string &argument : arguments)
      line += " " + argument;
    INFO("calibatt", line);
    ToolRun run = runTool(arguments);
    CHECK(run.exitCode == 2);
    CHECK_MESSAGE(run.err.starts_with("calibatt: error: "), run.err);
    CHECK_MESSAGE(contains(run.err, "\nRun calibatt"), run.err);
    CHECK_MESSAGE(!contains(run.err, "e+"), run.err);
    CHECK(run.err.size() < 300);
    CHECK(run.out == "");
  }
}

TEST_CASE("what is mistyped is named, with what is nearest to it") {
  struct Case {
    std::vector<std::string> arguments;
    std::string wanted;
  };
  const Case cases[] = {
      {{}, "calibatt wants a command: calibrate, profile, compile, merge, inspect,"},
      {{"frobnicate"}, "calibatt has no command \"frobnicate\"\n"},
      {{"inpsect", "info", "p"}, "calibatt has no command \"inpsect\"; did you mean inspect?"},
      {{"ls", "p"}, "calibatt has no command \"ls\"; did you mean inspect ls?"},
      {{"compil"}, "did you mean compile?"},
      {{"inspect", "shwo"}, "calibatt inspect has no command \"shwo\"; did you mean show?"},
      {{"--josn", "inspect"}, "calibatt has no option --josn"},
      {{"inspect", "info", "p", "--josn"},
       "calibatt inspect info has no option --josn; did you mean --json?"},
      {{"inspect", "info", "p", "q"}, "\"q\" was not expected"},
      {{"inspect", "info"}, "package is required"},
      {{"inspect", "ls", "p", "--layer", "one"}, "--layer: got \"one\", wanted a whole number"},
      {{"inspect", "show", "p", "0,0,0", "--cuda", "--ptx"}, "--cuda and --ptx exclude each other"},
      {{"inspect", "mask", "p", "0,0,0", "--characters", "foo"},
       "--characters: got \"foo\", wanted auto, halves, braille or ascii\n"},
      {{"inspect", "mask", "p", "0,0,0", "--scale", "0"},
       "--scale: got \"0\", wanted a whole number from 1 to 256\n"},
      {{"profile", "synth", "--layers", "0"},
       "--layers: got \"0\", wanted a whole number, 1 or more\n"},
      {{"profile", "synth", "--preset", "tyni"}, "did you mean tiny?"},
      {{"profile", "select", "c", "-o", "p", "--denoise", "foo"},
       "error: --denoise: unknown rule \"foo\", wanted"},
      {{"profile", "select", "c", "-o", "p", "--rho", "much"},
       "--rho: got \"much\", wanted a number"},
      {{"profile", "info", "p", "--held-out", "q"}, "--held-out requires --stability"},
      {{"profile", "merge", "-o"}, "--output: its value is missing: FILE"},
      {{"cache", "prune", "--limit", "-1"}, "--limit: got \"-1\", wanted bytes"},
      {{"cache", "prune", "--limit", "99999999TiB"}, "--limit: got \"99999999TiB\", wanted bytes"},
      {{"verify", "p", "--device", "tpu"},
       "error: --device: got \"tpu\", wanted host, cuda or cuda:N"},
  };
  for (const Case &test : cases) {
    ToolRun run = runTool(test.arguments);
    CHECK(run.exitCode == 2);
    CHECK_MESSAGE(contains(run.err, test.wanted), run.err);
  }
}

TEST_CASE("a cache that is not there yet, or empty, is no error") {
  TemporaryFolder folder;
  std::filesystem::create_directory(folder.path / "empty");
  for (const std::string &cache : {folder.file("none"), folder.file("empty")}) {
    ToolRun info = runTool({"cache", "info", "--cache", cache});
    CHECK(info.exitCode == 0);
    CHECK_MESSAGE(contains(info.out, cache + "\n  empty"), info.out);
    ToolRun json = runTool({"cache", "info", "--json"}, {"CALIBATT_CACHE=" + cache});
    CHECK(json.exitCode == 0);
    CHECK(contains(json.out, "\"entries\": 0"));
    CHECK(runTool({"cache", "prune", "--limit", "2 GiB", "--cache", cache}).exitCode == 0);
    ToolRun cleared = runTool({"cache", "clear", "--cache", cache});
    CHECK(cleared.exitCode == 0);
    CHECK(contains(cleared.out, "removed 0 entries"));
  }
  CHECK_FALSE(std::filesystem::exists(folder.file("none")));
  ToolRun off = runTool({"cache", "info"}, {"CALIBATT_CACHE="});
  CHECK(off.exitCode == 0);
  CHECK(contains(off.out, "CALIBATT_CACHE is empty"));
  // A folder of somebody else's is none, and stays.
  std::ofstream(folder.file("empty/theirs")) << "x";
  CHECK(runTool({"cache", "clear", "--cache", folder.file("empty")}).exitCode == 1);
  CHECK(std::filesystem::exists(folder.file("empty/theirs")));
}

TEST_CASE("a missing CUDA driver is named once") {
  TemporaryFolder folder;
  ToolRun run = runTool({"bench", folder.file("p.calibatt"), "--prewarm"},
                        {"CALIBATT_LIBCUDA=/nonexistent/libcuda.so.1"});
  CHECK(run.exitCode == 1);
  const size_t first = run.err.find("/nonexistent/libcuda.so.1");
  if (first != std::string::npos)
    CHECK_MESSAGE(run.err.find("/nonexistent/libcuda.so.1", first + 1) == std::string::npos,
                  run.err);
}

TEST_CASE("help and version exit with 0 and go to stdout") {
  for (const std::vector<std::string> &arguments :
       std::vector<std::vector<std::string>>{{"--help"},
                                             {"inspect", "--help"},
                                             {"inspect", "show", "--help"},
                                             {"inspect", "mask", "--help"},
                                             {"verify", "--help"},
                                             {"bench", "--help"},
                                             {"calibrate", "--help"},
                                             {"profile", "--help"}}) {
    ToolRun run = runTool(arguments);
    CHECK(run.exitCode == 0);
    CHECK(contains(run.out, "Usage"));
    CHECK(run.err == "");
  }
  ToolRun version = runTool({"--version"});
  CHECK(version.exitCode == 0);
  CHECK(version.out.starts_with("calibatt "));
}

TEST_CASE("compile becomes calibatt-compile with every argument, and returns its exit code") {
  TemporaryFolder folder;
  std::string copy = folder.file("calibatt");
  std::filesystem::copy_file(toolPath(), copy);
  std::string script = folder.file("calibatt-compile");
  std::ofstream(script) << "#!/bin/sh\nfor a in \"$@\"; do echo \"<$a>\"; done\nexit 7\n";
  std::filesystem::permissions(script, std::filesystem::perms::owner_all);
  ToolRun run = runProgram(copy, {"compile", "--help", "a b", "-j4", "inspect", "--", "-x"});
  CHECK(run.exitCode == 7);
  CHECK(run.out == "<--help>\n<a b>\n<-j4>\n<inspect>\n<-->\n<-x>\n");
}

TEST_CASE("compile without the compiler fails with 1 and says where it looked") {
  TemporaryFolder folder;
  std::string copy = folder.file("calibatt");
  std::filesystem::copy_file(toolPath(), copy);
  ToolRun run = runProgram(copy, {"compile", "p.calib.safetensors"}, {"PATH=" + folder.file("no")});
  CHECK(run.exitCode == 1);
  CHECK(contains(run.err, folder.file("calibatt-compile")));
  CHECK(contains(run.err, "CALIBATT_BUILD_COMPILER"));
}

TEST_CASE("the binary links neither LLVM nor CUDA, nor a C++ library, nor zstd") {
  ToolRun ldd = runProgram("/usr/bin/ldd", {toolPath()});
  REQUIRE(ldd.exitCode == 0);
  std::vector<std::string> unwanted = {"LLVM", "MLIR", "cuda",   "nvrtc", "nvJitLink",
                                       "zstd", "fmt",  "libpng", "libz."};
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) // whose libraries bring them
  unwanted.push_back(
      "libstdc++"); // libgcc_s is on every Linux, and a static one wants a newer glibc
#endif
  for (const std::string &library : unwanted)
    CHECK_MESSAGE(!contains(ldd.out, library), ldd.out);
  CHECK(contains(ldd.out, "libc.so"));
}

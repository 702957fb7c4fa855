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
    CHECK(run.err != "");
    CHECK(run.out == "");
  }
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
  unwanted.insert(unwanted.end(), {"libstdc++", "libgcc_s"});
#endif
  for (const std::string &library : unwanted)
    CHECK_MESSAGE(!contains(ldd.out, library), ldd.out);
  CHECK(contains(ldd.out, "libc.so"));
}

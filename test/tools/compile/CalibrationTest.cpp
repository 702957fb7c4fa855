// Packages to calibrate with, made by the real binary from a shape alone.
#include "runtime/format/CalibrationParams.h"
#include "runtime/format/Package.h"
#include "test/tools/compile/CompileRun.h"

#include <cmath>
#include <doctest/doctest.h>

using namespace calibatt;
using namespace calibatt::test;

namespace {

/// How many code images are calibration kernels.
uint32_t calibrationImages(const PackageReader &package) {
  uint32_t found = 0;
  for (uint32_t code = 0; code < package.codeCount(); ++code)
    found += package.codeInfo(code).symbol.starts_with(CALIBATT_CALIBRATION_SYMBOL);
  return found;
}

} // namespace

TEST_CASE("a calibration package has every calibration kernel, and runs dense attention") {
  ProfileFolder folder;
  const std::string path = folder.file("m.calibatt");
  const nlohmann::json report =
      compileJson({"--calibration", "--grid", "3x7x20", "--heads", "2", "--head-dim", "64", "-o",
                   path, "--model", "a model", "--anchors", "4", "--cache", folder.file("cache")});
  CHECK(report["code_images"].size() == kCalibrationKernels + 1);
  auto package = PackageReader::open(path);
  REQUIRE_MESSAGE(package, package.message());
  CHECK(calibrationImages(*package) == kCalibrationKernels);
  const Problem &problem = package->manifest().problem;
  CHECK(problem.model == "a model");
  CHECK(problem.tokens == 420);
  CHECK(problem.scale == doctest::Approx(0.125));
  CHECK(package->manifest().repetition.anchors == 4);
  REQUIRE(package->kernelCount() == 1);
  CHECK(package->kernel(0).visits == 2 * 4 * 4);
  CHECK(package->route(0, 1, 0) == 0);

  const std::string again = folder.file("again.calibatt");
  const nlohmann::json cached =
      compileJson({"--calibration", "--grid", "3x7x20", "--heads", "2", "--head-dim", "64", "-o",
                   again, "--model", "a model", "--anchors", "4", "--cache", folder.file("cache")});
  CHECK(cached["cached_code_images"] == kCalibrationKernels + 1);
  CHECK(readBytes(again) == readBytes(path));
  // They are told apart from the forms of attention.
  uint32_t reported = 0;
  for (const auto &code : report["code_images"])
    reported += code["form"] == "calibration";
  CHECK(reported == kCalibrationKernels);
  const nlohmann::json info =
      nlohmann::json::parse(runTool({"inspect", "info", path, "--json"}).out);
  CHECK(info["computed"]["mean"] == 1.0);
  CHECK(info["visits"] == 2 * 4 * 4);
  REQUIRE(info["forms"].size() == 2);
  CHECK(info["forms"][1]["form"] == "calibration");
  CHECK(info["forms"][1]["code_images"] == kCalibrationKernels);
  CHECK(contains(runTool({"inspect", "info", path}).out,
                 "none: made for a shape, to calibrate with"));
  const ToolRun verified = runTool({"verify", path});
  CHECK_MESSAGE(verified.exitCode == 0, verified.err);
}

TEST_CASE("with text there are no kernels that score repetition") {
  ProfileFolder folder;
  const std::string path = folder.file("m.calibatt");
  compileJson({"--calibration", "--grid", "2x8x10", "--text", "20", "--heads", "1", "-o", path});
  auto package = PackageReader::open(path);
  REQUIRE_MESSAGE(package, package.message());
  CHECK(package->manifest().problem.tokens == 180);
  CHECK(package->manifest().problem.maxText == 20);
  CHECK(calibrationImages(*package) == 4);
}

TEST_CASE("a shape that no kernel can have is refused, and leaves no file") {
  ProfileFolder folder;
  const std::string path = folder.file("m.calibatt");
  const auto refused = [&](std::vector<std::string> arguments, int exitCode, const char *words) {
    arguments.insert(arguments.end(), {"-o", path});
    const ToolRun run = runCompile(arguments);
    CHECK(run.exitCode == exitCode);
    CHECK_MESSAGE(contains(run.err, words), run.err);
  };
  refused({"--calibration", "--heads", "2"}, 2, "--calibration wants --grid TxHxW");
  refused({"--calibration", "--grid", "3x7", "--heads", "2"}, 2,
          "--grid: got \"3x7\", wanted TxHxW");
  refused({"--calibration", "--grid", "3x7x20"}, 2, "--heads");
  refused({"--calibration", folder.profile, "--grid", "3x7x20", "--heads", "2"}, 2, "no profile");
  refused({"--calibration", "--grid", "3x7x20", "--heads", "2", "--head-dim", "96"}, 2, "96");
  refused({"--calibration", "--grid", "0x7x20", "--heads", "2"}, 1, "has 0 tokens");
  refused({"--calibration", "--grid", "99x999x999", "--heads", "2"}, 1, "tokens, wanted 1 to");
  refused({"--calibration", "--grid", "21x45x80", "--heads", "200"}, 1, "200 heads of 591 blocks");
  CHECK(folder.names() == std::vector<std::string>{"p.calib.safetensors"});
}

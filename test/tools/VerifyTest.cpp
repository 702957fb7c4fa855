// `calibatt verify` and `bench` on the host device: they pass what is right and
// catch one wrong block.
#include "test/tools/SamplePackage.h"
#include "test/tools/ToolRun.h"

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <random>

using namespace calibatt;
using namespace calibatt::test;
using Json = nlohmann::json;

namespace {

struct Fixture {
  TemporaryFolder folder;
  Sample sample;
  std::string package = folder.file("sample.calibatt");
  std::string profile = folder.file("sample.calib.safetensors");
  Fixture() {
    sample.writePackage(package);
    sample.writeProfile(profile);
  }
};

} // namespace

TEST_CASE_FIXTURE(Fixture, "verify passes a package of every form against its profile") {
  INFO("seed ", sample.seed);
  ToolRun run = runTool({"verify", package, "--profile", profile, "--device", "host", "--json"});
  REQUIRE_MESSAGE(run.exitCode == 0, run.out, run.err);
  Json json = Json::parse(run.out);
  CHECK(json["passed"] == true);
  CHECK(json["schedules"]["equal"] == true);
  CHECK(json["schedules"]["sites"] == kLayers * kHeads * kSteps);
  CHECK(json["schedules"]["blocks"] == kLayers * kHeads * kSteps * kBlocks * kBlocks);
  CHECK(json["schedules"]["repetitive_sites"] == 1);
  const Json &numerics = json["numerics"];
  CHECK(numerics["gpu_code_run"] == false);
  REQUIRE(numerics["kernels"].size() == kLayers * kSteps + 1);
  for (const Json &kernel : numerics["kernels"]) {
    CHECK(kernel["rows"] == 2 * kHeads * kTokens);
    CHECK(kernel["relative_rms"] > 0);
    CHECK(kernel["relative_rms"] < 1e-5);
    CHECK(kernel["max_lse_error"] < 1e-4);
    CHECK(kernel["unwritten"] == 0);
  }
  CHECK(numerics["kernels"].back()["dense_fallback"] == true);
}

TEST_CASE_FIXTURE(Fixture, "verify says in words what ran and what did not") {
  ToolRun run = runTool({"verify", package, "--profile", profile, "--seed", "5", "--sites", "2"});
  CHECK(run.exitCode == 0);
  for (const char *part : {"equal, bit by bit", "seed 5", "2 of 8 distinct kernels run",
                           "The GPU code was compiled, not run"})
    CHECK_MESSAGE(contains(run.out, part), run.out);
  ToolRun alone = runTool({"verify", package});
  CHECK(alone.exitCode == 0);
  CHECK(contains(alone.out, "not compared"));
}

TEST_CASE_FIXTURE(Fixture, "verify catches one block dropped from or added to a schedule") {
  INFO("seed ", sample.seed);
  std::mt19937 random(sample.seed);
  for (uint32_t step = 0; step < kSteps; ++step)
    for (uint32_t layer = 0; layer < kLayers; ++layer) {
      Sample changed = sample;
      uint32_t head = step == 3 && layer == 1 ? 0 : random() % kHeads;
      uint32_t row = random() % kBlocks, block = (row + 1 + random() % (kBlocks - 1)) % kBlocks;
      bool kept = sample.mask(layer, head, step).get(row, block);
      changed.mask(layer, head, step).set(row, block, !kept);
      changed.writePackage(package);
      ToolRun run = runTool({"verify", package, "--profile", profile, "--json"});
      CHECK(run.exitCode == 1);
      Json json = Json::parse(run.out);
      CHECK(json["passed"] == false);
      CHECK(json["schedules"]["only_in_package"] == (kept ? 0 : 1));
      CHECK(json["schedules"]["only_in_profile"] == (kept ? 1 : 0));
      REQUIRE(json["schedules"]["first_differences"].size() == 1);
      const Json &first = json["schedules"]["first_differences"][0];
      CHECK(first["layer"] == layer);
      CHECK(first["head"] == head);
      CHECK(first["step"] == step);
      CHECK(first["row"] == row);
      CHECK(first["block"] == block);
      CHECK(first["in"] == (kept ? "profile" : "package"));
      // The reference takes its mask from the profile, so that the numerics see it too.
      CHECK(json["numerics"]["passed"] == false);
    }
  ToolRun text = runTool({"verify", package, "--profile", profile});
  CHECK(text.exitCode == 1);
  CHECK(contains(text.out, "layer 1, head 0, step 3: row"));
}

TEST_CASE_FIXTURE(Fixture, "a repetitive site whose kernel is not dense is a difference") {
  sample.mask(1, 1, 3).set(2, 0, false);
  sample.writePackage(package);
  ToolRun run = runTool({"verify", package, "--profile", profile});
  CHECK(run.exitCode == 1);
  CHECK_MESSAGE(contains(run.out, "layer 1, head 1, step 3: row 2: key block 0 is in the profile"),
                run.out);
}

TEST_CASE_FIXTURE(Fixture, "verify refuses damaged and foreign profiles with one error") {
  std::vector<uint8_t> whole = readBytes(profile);
  std::string bad = folder.file("bad.calib.safetensors");
  for (size_t size : {size_t(0), size_t(9), whole.size() / 2, whole.size() - 1}) {
    writeBytes(bad, {whole.begin(), whole.begin() + int64_t(size)});
    ToolRun run = runTool({"verify", package, "--profile", bad});
    CHECK(run.exitCode == 1);
    CHECK_MESSAGE(contains(run.err, bad), run.err);
    CHECK(run.out == "");
  }
  ToolRun foreign = runTool({"verify", package, "--profile", package});
  CHECK(foreign.exitCode == 1);
  CHECK(contains(foreign.err, package));
}

TEST_CASE_FIXTURE(Fixture, "a flipped byte in package or profile never passes for another mask") {
  INFO("seed ", sample.seed);
  std::mt19937 random(sample.seed);
  std::string bad = folder.file("bad");
  for (int i = 0; i < 20; ++i) {
    bool ofPackage = i % 2;
    std::vector<uint8_t> bytes = readBytes(ofPackage ? package : profile);
    size_t at = random() % bytes.size();
    bytes[at] ^= uint8_t(1 + random() % 255);
    writeBytes(bad, bytes);
    ToolRun run = runTool({"verify", ofPackage ? bad : package, "--profile",
                           ofPackage ? profile : bad, "--sites", "1"});
    INFO((ofPackage ? "package" : "profile"), " byte ", at, ": ", run.out, run.err);
    CHECK((run.exitCode == 0 || run.exitCode == 1));
    if (run.exitCode == 0)
      CHECK(contains(run.out, "equal, bit by bit"));
    else if (run.err == "")
      CHECK((contains(run.out, "differ") || contains(run.out, "failed")));
  }
}

TEST_CASE_FIXTURE(Fixture, "a GPU that is not there is one clear error") {
  for (const char *command : {"verify", "bench"}) {
    ToolRun run = runTool({command, package, "--device", "cuda:0"},
                          {"CALIBATT_LIBCUDA=/nowhere/libcuda.so.1"});
    CHECK(run.exitCode == 1);
    CHECK_MESSAGE(contains(run.err, "/nowhere/libcuda.so.1"), run.err);
  }
}

TEST_CASE_FIXTURE(Fixture,
                  "bench on the host counts the computed work and says that it is the host") {
  ToolRun run = runTool({"bench", package, "--device", "host", "--layer", "0", "--step", "1",
                         "--runs", "3", "--json"});
  REQUIRE_MESSAGE(run.exitCode == 0, run.err);
  Json json = Json::parse(run.out);
  CHECK(json["timing_of"] == "host_cpu");
  REQUIRE(json["calls"].size() == 2);
  double pairs = 0;
  auto length = [](uint32_t block) { return block == kBlocks - 1 ? kTokens % 128 : 128; };
  for (uint32_t head = 0; head < kHeads; ++head)
    for (uint32_t row = 0; row < kBlocks; ++row)
      for (uint32_t col = 0; col < kBlocks; ++col)
        if (sample.mask(0, head, 1).get(row, col))
          pairs += double(length(row)) * length(col);
  CHECK(json["calls"][0]["flop"].get<double>() == doctest::Approx(4 * kHeadDim * pairs));
  CHECK(json["calls"][0]["median_s"] > 0);
  CHECK(json["calls"][1]["dense_fallback"] == true);
  CHECK(json["calls"][1]["density"] == 1.0);
  ToolRun text = runTool({"bench", package, "--device", "host", "--runs", "1"});
  CHECK(contains(text.out, "times of this machine's CPU"));
  ToolRun outside = runTool({"bench", package, "--device", "host", "--step", "4"});
  CHECK(outside.exitCode == 1);
  CHECK(contains(outside.err, "step 4: the package has steps 0..3"));
}

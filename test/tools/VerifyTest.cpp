// `calibatt verify` and `bench` on the host device: they pass what is right and
// catch one wrong block.
#include "calib_profiles/StepSharing.h"
#include "runtime/inspect/SiteListing.h"
#include "test/tools/SamplePackage.h"
#include "test/tools/ToolRun.h"

#include <algorithm>
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

TEST_CASE_FIXTURE(Fixture, "verify compares schedules without running a kernel") {
  ToolRun run = runTool({"verify", package, "--profile", profile, "--schedules-only"});
  CHECK_MESSAGE(run.exitCode == 0, run.err);
  CHECK(contains(run.out, "equal, bit by bit"));
  CHECK(contains(run.out, "not run: --schedules-only"));
  sample.mask(0, 0, 0).set(0, kBlocks - 1, !sample.mask(0, 0, 0).get(0, kBlocks - 1));
  sample.writePackage(package);
  run = runTool({"verify", package, "--profile", profile, "--schedules-only", "--json"});
  CHECK(run.exitCode == 1);
  Json json = Json::parse(run.out);
  CHECK(json["numerics"] == nullptr);
  CHECK(json["schedules"]["differing_sites"] == 1);
  CHECK(runTool({"verify", package, "--schedules-only"}).exitCode == 2);
}

TEST_CASE_FIXTURE(Fixture, "bench times how the schedules of the next step are made ready") {
  ToolRun run =
      runTool({"bench", package, "--device", "host", "--prewarm", "--threads", "2", "--json"});
  REQUIRE_MESSAGE(run.exitCode == 0, run.err);
  Json json = Json::parse(run.out);
  CHECK(json["steps"] == kSteps);
  CHECK(json["next_step_median_s"] > 0);
  CHECK(json["next_step_slowest_s"] >= json["next_step_median_s"]);
  CHECK(json["two_step_window_bytes"] > 0);
  run = runTool({"bench", package, "--device", "host", "--prewarm"});
  CHECK_MESSAGE(contains(run.out, "of device memory"), run.out);
  CHECK(runTool({"bench", package, "--threads", "2"}).exitCode == 2);
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

namespace {

/// A package whose steps share their schedules as share-steps would make them: layer 0, head 0
/// has one block more at step 1, and other sites what their random masks give.
struct SharedFixture : Fixture {
  Sample shared;
  uint64_t added = 0;

  SharedFixture() {
    for (uint32_t row = 0; row < kBlocks; ++row)
      for (uint32_t col = 0; col < kBlocks; ++col) {
        sample.mask(0, 0, 0).set(row, col, row == col);
        sample.mask(0, 0, 1).set(row, col, row != 0 || col != 1);
        sample.mask(0, 0, 2).set(row, col);
      }
    sample.writeProfile(profile);
    shared = sample;
    shared.measured = sample.masks;
    shared.supersetPasses = {{kShareStepsPass, 0.6}};
    for (uint32_t layer = 0; layer < kLayers; ++layer)
      for (uint32_t head = 0; head < kHeads; ++head) {
        std::vector<const BlockMask *> steps;
        for (uint32_t step = 0; step < kSteps; ++step)
          if (layer != 1 || head != 1 || step != 3) // which is repetitive
            steps.push_back(&sample.mask(layer, head, step));
        StepGroups groups = shareSteps(steps, 0.6);
        for (uint32_t step = 0; step < steps.size(); ++step) {
          shared.mask(layer, head, step) = groups.masks[groups.stepGroup[step]];
          added += shared.mask(layer, head, step).count() - steps[step]->count();
        }
      }
    shared.writePackage(package);
  }

  Json verify(int exitCode) const {
    ToolRun run = runTool({"verify", package, "--profile", profile, "--json"});
    CHECK_MESSAGE(run.exitCode == exitCode, run.out, run.err);
    return Json::parse(run.out)["schedules"];
  }
};

} // namespace

TEST_CASE_FIXTURE(SharedFixture, "a superset package passes where no block is missing") {
  INFO("seed ", sample.seed);
  REQUIRE(added >= 1);
  Json schedules = verify(0);
  CHECK(schedules["checked"] == "superset");
  CHECK(schedules["passed"] == true);
  CHECK(schedules["equal"] == false);
  CHECK(schedules["only_in_package"] == added);
  CHECK(schedules["only_in_profile"] == 0);
  CHECK(schedules["added_beyond_bound"] == 0);
  CHECK(schedules["first_differences"].empty());
  const Json &largest = schedules["largest_addition"];
  CHECK(largest["density"] >= 1 / 16.0);
  CHECK(largest["density"] <= largest["bound"]);
  ToolRun text = runTool({"verify", package, "--profile", profile});
  CHECK(text.exitCode == 0);
  for (const std::string &part :
       {fmt::format("superset, no block missing, {} block{} added\n", added, added == 1 ? "" : "s"),
        std::string("share-steps 0.6: at most "), std::string("masks from the package")})
    CHECK_MESSAGE(contains(text.out, part), text.out);

  // The same schedules in a package that does not say so are not the profile's.
  shared.supersetPasses.clear();
  shared.writePackage(package);
  Json exact = verify(1);
  CHECK(exact["checked"] == "equality");
  CHECK(exact["only_in_package"] == added);
}

TEST_CASE_FIXTURE(SharedFixture, "a superset package that adds nothing passes and says so") {
  Sample same = sample;
  same.supersetPasses = shared.supersetPasses;
  same.writePackage(package);
  Json schedules = verify(0);
  CHECK(schedules["checked"] == "superset");
  CHECK(schedules["equal"] == true);
  CHECK(schedules["largest_addition"].is_null());
  CHECK(contains(runTool({"verify", package, "--profile", profile}).out,
                 "superset, no block missing, 0 blocks added\n"));
}

TEST_CASE_FIXTURE(SharedFixture, "a block dropped from a superset package fails") {
  INFO("seed ", sample.seed);
  std::mt19937 random(sample.seed);
  for (Site site : {Site{0, 0, 1}, Site{1, 0, 2}, Site{1, 1, 3}}) { // the last is repetitive
    Sample changed = shared;
    BlockMask &mask = changed.mask(site.layer, site.head, site.step);
    uint32_t row = random() % kBlocks;
    // Of the profile's blocks, and not the only one of the row.
    mask.set(row, (row + 1) % kBlocks);
    mask.set(row, row, false);
    changed.writePackage(package);
    Json schedules = verify(1);
    CHECK(schedules["passed"] == false);
    CHECK(schedules["only_in_profile"] == 1);
    const Json &first = schedules["first_differences"];
    REQUIRE(std::count_if(first.begin(), first.end(), [&](const Json &difference) {
              return difference["in"] == "profile" && difference["layer"] == site.layer &&
                     difference["head"] == site.head && difference["step"] == site.step &&
                     difference["row"] == row && difference["block"] == row;
            }) == 1);
    ToolRun text = runTool({"verify", package, "--profile", profile});
    CHECK_MESSAGE(contains(text.out, "superset wanted: 1 block missing"), text.out);
  }
}

TEST_CASE_FIXTURE(SharedFixture, "a block that no sharing of steps can add fails") {
  // Step 0 has the diagonal only: 4 of the 15 blocks of step 1.
  shared.mask(0, 0, 0).set(2, 0);
  shared.writePackage(package);
  Json schedules = verify(1);
  CHECK(schedules["only_in_profile"] == 0);
  CHECK(schedules["only_in_package"] == added + 1);
  CHECK(schedules["added_beyond_bound"] == 1);
  CHECK(schedules["differing_sites"] == 1);
  CHECK(schedules["first_differences"] ==
        Json::parse(R"([{"layer": 0, "head": 0, "step": 0, "row": 2, "block": 0,
                         "in": "package"}])"));
  ToolRun text = runTool({"verify", package, "--profile", profile});
  CHECK_MESSAGE(contains(text.out, "1 of them beyond what share-steps 0.6 may add"), text.out);
  CHECK_MESSAGE(contains(text.out, "1 site differs\n"), text.out);
}

TEST_CASE_FIXTURE(SharedFixture, "a superset pass that verify does not know is one clear error") {
  shared.supersetPasses.push_back({"shift-rows", 0.5});
  shared.writePackage(package);
  ToolRun run = runTool({"verify", package, "--profile", profile});
  CHECK(run.exitCode == 1);
  CHECK(run.err == "calibatt: error: " + package +
                       ": was compiled with the superset pass \"shift-rows\", which this program "
                       "cannot check\n");
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
  CHECK(json["calls"][1]["computed"] == 1.0);
  ToolRun text = runTool({"bench", package, "--device", "host", "--runs", "1"});
  CHECK(contains(text.out, "times of this machine's CPU"));
  ToolRun outside = runTool({"bench", package, "--device", "host", "--step", "4"});
  CHECK(outside.exitCode == 1);
  CHECK(contains(outside.err, "step 4: the package has steps 0..3"));
}

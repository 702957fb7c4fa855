// `calibatt check`, and what `verify` checks besides schedules: damage, and files whose hashes fit
// but which do not say the same thing everywhere.
#include "calib_profiles/CountsAccumulator.h"
#include "test/calib/CountsSamples.h"
#include "test/format/Forgery.h"
#include "test/tools/SamplePackage.h"
#include "test/tools/ToolRun.h"

#include "runtime/format/Safetensors.h"

#include <algorithm>
#include <cstring>
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <random>

using namespace calibatt;
using namespace calibatt::test;

namespace {

struct Fixture {
  TemporaryFolder folder;
  Sample sample;
  std::mt19937_64 random{sample.seed};
  std::string package = folder.file("sample.calibatt");
  std::string profile = folder.file("sample.calib.safetensors");
  std::string counts = folder.file("sample.counts.safetensors");
  std::string bad = folder.file("bad");
  Fixture() {
    sample.writePackage(package);
    sample.writeProfile(profile);
    Status status = writeSampleCounts(counts, sampleCountsHeader(0), {"a", "b"}, random);
    REQUIRE_MESSAGE(status, status.message());
  }

  /// First byte and size of every tensor of a file.
  static std::map<std::string, std::pair<uint64_t, uint64_t>> places(const std::string &path) {
    Result<SafetensorsReader> file = SafetensorsReader::open(path);
    REQUIRE(file);
    std::map<std::string, std::pair<uint64_t, uint64_t>> result;
    for (const TensorEntry &tensor : file->tensors())
      if (tensor.bytes)
        result[tensor.name] = {tensor.offset, tensor.bytes};
    return result;
  }
  void flip(const std::string &from, uint64_t at) {
    std::vector<uint8_t> bytes = readBytes(from);
    bytes[at] ^= uint8_t(1u << random() % 8);
    writeBytes(bad, bytes);
  }
  /// What verify says of a package, as it is and in JSON.
  std::string verifyError(const std::string &path, const std::string &against) {
    const ToolRun run = runTool({"verify", path, "--profile", against, "--sites", "1"});
    CHECK_MESSAGE(run.exitCode == 1, run.out);
    const ToolRun json = runTool({"verify", path, "--profile", against, "--sites", "1", "--json"});
    CHECK(json.exitCode == 1);
    if (!json.out.empty())
      CHECK(nlohmann::json::parse(json.out)["passed"] == false);
    return run.out + run.err;
  }
};

} // namespace

TEST_CASE_FIXTURE(Fixture, "check passes packages, profiles and counts as they were written") {
  const ToolRun run = runTool({"check", package, profile, counts});
  CHECK_MESSAGE(run.exitCode == 0, run.err);
  for (const char *part : {"sample.calibatt  package, ", "safetensors  profile, ",
                           "safetensors  counts, ", "12 sites: as written"})
    CHECK_MESSAGE(contains(run.out, part), run.out);
  const auto json = nlohmann::json::parse(runTool({"check", "--json", package, profile}).out);
  CHECK(json["passed"] == true);
  CHECK(json["files"][0]["kind"] == "package");
  CHECK(json["files"][0]["chunks"] >= 8);
  CHECK(json["files"][1]["kind"] == "profile");
  CHECK(json["files"][1]["chunks"] == kLayers * kHeads);
  CHECK(json["files"][1]["faults"].empty());
  CHECK(runTool({"check"}).exitCode == 2);
}

TEST_CASE_FIXTURE(Fixture, "check and verify find a flipped bit in any pool, by tensor and chunk") {
  INFO("seed ", sample.seed);
  for (const auto &[name, place] : places(package)) {
    if (!name.ends_with("/pool"))
      continue;
    for (uint64_t at : {uint64_t(5), place.second / 2, place.second - 1, random() % place.second}) {
      flip(package, place.first + at);
      const ToolRun run = runTool({"check", bad});
      CHECK(run.exitCode == 1);
      CHECK_MESSAGE(contains(run.err, bad + ": " + name + ": chunk "), run.err);
      const auto fault = nlohmann::json::parse(
          runTool({"check", bad, package, "--json"}).out)["files"][0]["faults"][0];
      CHECK(fault["tensor"] == name);
      CHECK(fault["chunk"].is_number());
      CHECK(contains(verifyError(bad, profile), bad + ": " + name + ": chunk "));
      CHECK(runTool({"verify", bad, "--profile", profile, "--schedules-only"}).exitCode == 1);
      CHECK(runTool({"verify", bad}).exitCode == 1);
    }
  }
}

TEST_CASE_FIXTURE(Fixture, "check finds a flipped bit in any tensor, and names it") {
  INFO("seed ", sample.seed);
  for (const std::string &file : {package, profile})
    for (const auto &[name, place] : places(file)) {
      flip(file, place.first + random() % place.second);
      const auto json = nlohmann::json::parse(runTool({"check", bad, "--json"}).out);
      CHECK(json["passed"] == false);
      REQUIRE_MESSAGE(!json["files"][0]["faults"].empty(), name);
      CHECK(json["files"][0]["faults"][0]["tensor"] == name);
    }
  for (const auto &[name, place] : places(counts)) {
    flip(counts, place.first + random() % place.second);
    const ToolRun run = runTool({"check", bad});
    CHECK_MESSAGE(run.exitCode == 1, name);
    CHECK_MESSAGE(contains(run.err, bad + ": "), run.err);
  }
}

TEST_CASE_FIXTURE(Fixture, "check says of every file what is wrong and goes on to the next") {
  writeBytes(bad, {1, 2, 3});
  const ToolRun run = runTool({"check", folder.file("none"), bad, profile});
  CHECK(run.exitCode == 1);
  CHECK(contains(run.err, folder.file("none") + ": cannot open"));
  CHECK(contains(run.err, bad + ": "));
  CHECK(contains(run.out, "as written"));
  // What has no hashes is not called checked.
  const ToolRun dump = runTool({"check", CALIBATT_SAMPLE "/prompt0.safetensors"});
  CHECK_MESSAGE(dump.exitCode == 0, dump.err);
  CHECK(contains(dump.out, "dump, "));
  CHECK(contains(dump.out, "no hashes: only its structure was checked"));
}

TEST_CASE_FIXTURE(Fixture, "counts with a prompt that waits are not touched by a check") {
  const std::string waiting = folder.file("w");
  REQUIRE(writeSampleRecord(waiting, sampleCountsHeader(0), "p", random));
  const std::vector<uint8_t> before = readBytes(waiting);
  const ToolRun run = runTool({"check", waiting, waiting + ".prompt"});
  CHECK_MESSAGE(run.exitCode == 0, run.err);
  CHECK(contains(run.out, "a prompt waits beside them"));
  CHECK(contains(run.out, "record, "));
  CHECK(readBytes(waiting) == before);
  std::vector<uint8_t> record = readBytes(waiting + ".prompt");
  const std::string id = "\\\"p\\\"";
  const auto at = std::search(record.begin(), record.end(), id.begin(), id.end());
  REQUIRE(at != record.end());
  *(at + 2) ^= 1; // another prompt's id
  writeBytes(waiting + ".prompt", record);
  const ToolRun damaged = runTool({"check", waiting + ".prompt"});
  CHECK(damaged.exitCode == 1);
  CHECK_MESSAGE(contains(damaged.err, "its prompt_id is damaged"), damaged.err);
}

TEST_CASE_FIXTURE(Fixture, "a stored order with a row twice or out of range fails") {
  auto order = [&](uint16_t row) {
    forgeItem(package, bad, "order", 0, [&](std::vector<uint8_t> &bytes) {
      std::memcpy(bytes.data() + 2 * sizeof row, &row, sizeof row);
    });
  };
  order(1); // which is entry 1
  CHECK(contains(verifyError(bad, profile), "order 0: entry 2 is row 1, which came before"));
  CHECK(contains(runTool({"check", bad}).err, "order 0: entry 2 is row 1, which came before"));
  order(kHeads * kBlocks);
  CHECK(contains(verifyError(bad, profile), "order 0: entry 2 is row 8, but there are 8"));
  CHECK(contains(runTool({"verify", bad}).err, "order 0: entry 2 is row 8, but there are 8"));
}

TEST_CASE_FIXTURE(Fixture, "verify holds scale, model, dtype and steps against the profile") {
  struct Case {
    const char *wanted;
    std::function<void(Json &)> change;
  };
  const Case cases[] = {
      {"scale is 0.25, but ", [](Json &j) { j["problem"]["scale"] = 0.25; }},
      {"model is another, but ", [](Json &j) { j["problem"]["model"] = "another"; }},
      {"dtype is f16, but ", [](Json &j) { j["problem"]["dtype"] = "f16"; }},
      {"repetition.gamma is 0.5, but ", [](Json &j) { j["repetition"]["gamma"] = 0.5; }},
      {"repetition.anchors is 3, but ", [](Json &j) { j["repetition"]["anchors"] = 3; }},
      {"steps[1].timestep is 700, but ", [](Json &j) { j["steps"][1]["timestep"] = 700; }},
      {"steps[2].sigma is 0.25, but ", [](Json &j) { j["steps"][2]["sigma"] = 0.25; }},
      {"steps[3].module is low, but ", [](Json &j) { j["steps"][3]["module"] = "low"; }},
  };
  for (const Case &test : cases) {
    forge(package, bad, "", {}, test.change);
    const std::string said = verifyError(bad, profile);
    CHECK_MESSAGE(contains(said, bad + ": " + test.wanted), said);
    CHECK(contains(said, "the package is not of this profile"));
  }
  // Packages that do not tell their steps are compared in the rest.
  forge(package, bad, "", {}, [](Json &j) { j.erase("steps"); });
  CHECK(runTool({"verify", bad, "--profile", profile, "--sites", "1"}).exitCode == 0);
}

TEST_CASE_FIXTURE(Fixture,
                  "verify holds the scale of a manifest against the code, without a profile") {
  forge(package, bad, "", {}, [](Json &j) { j["problem"]["scale"] = 0.25; });
  const ToolRun run = runTool({"verify", bad, "--sites", "1"});
  CHECK(run.exitCode == 1);
  CHECK_MESSAGE(contains(run.out, "was compiled for scale 0.125, but the manifest says 0.25"),
                run.out);
  const auto json = nlohmann::json::parse(runTool({"verify", bad, "--sites", "1", "--json"}).out);
  CHECK(json["passed"] == false);
  CHECK(json["code"]["faults"].size() == json["code"]["code_images"]);
  const auto good = nlohmann::json::parse(runTool({"verify", package, "--json"}).out);
  CHECK(good["code"]["faults"].empty());
  CHECK(good["integrity"]["passed"] == true);
}

TEST_CASE_FIXTURE(Fixture, "verify holds text, symbol and machine code against each other") {
  auto replaced = [&](const char *pool, uint32_t item, const std::string &from,
                      const std::string &to) {
    forgeItem(package, bad, pool, item, [&](std::vector<uint8_t> &bytes) {
      const std::vector<uint8_t> wanted(from.begin(), from.end());
      const auto at = std::search(bytes.begin(), bytes.end(), wanted.begin(), wanted.end());
      REQUIRE(at != bytes.end());
      std::copy(to.begin(), to.end(), at);
    });
    const ToolRun run = runTool({"verify", bad, "--sites", "1"});
    CHECK(run.exitCode == 1);
    return run.out + run.err;
  };
  // Of the texts the first is that of code 0.
  CHECK(contains(replaced("text", 0, ".scale = 0x1p-3f", ".scale = 0x1p-2f"),
                 "code 0: was compiled for scale 0.25, but the manifest says 0.125"));
  CHECK(contains(replaced("text", 0, ".head_dim = 64", ".head_dim = 32"),
                 "code 0: was compiled for head_dim 32, but the manifest says 64"));
  CHECK(contains(replaced("text", 0, "// runs", "// Runs"), "code 0: its text has the hash "));
  const float constant = float(kScale) * 1.4426950408889634f;
  std::string stored(sizeof constant, '\0');
  std::memcpy(stored.data(), &constant, sizeof constant);
  CHECK(contains(replaced("code", 0, stored, std::string(4, 'x')),
                 "code 0: its machine code does not use the scale 0.125"));
  CHECK(contains(replaced("code", 0, "calibatt_runs_", "calibatt_sums_"),
                 "code 0: its machine code does not define calibatt_runs_"));
}

TEST_CASE_FIXTURE(Fixture,
                  "verify holds a site's statistics and a kernel's visits against the rest") {
  auto changed = [&](const char *tensor, auto value, size_t index) {
    forge(package, bad, tensor, [&](std::vector<uint8_t> &bytes) {
      std::memcpy(bytes.data() + index * sizeof value, &value, sizeof value);
    });
    return verifyError(bad, profile);
  };
  // Site 9: layer 1, head 0, step 1.
  CHECK(contains(changed("stats/kept_mass", 0.8f, 9), "layer 1, head 0, step 1: kept mass is 0.8"));
  CHECK(contains(changed("stats/density", 0.01f, 9), "layer 1, head 0, step 1: density is 0.01"));
  CHECK(
      contains(changed("stats/repetition", 0.2f, 9), "layer 1, head 0, step 1: repetition is 0.2"));
  const auto json = nlohmann::json::parse(
      runTool({"verify", bad, "--profile", profile, "--schedules-only", "--json"}).out);
  CHECK(json["schedules"]["equal"] == true);
  CHECK(json["schedules"]["differing_statistics"] == 1);
  CHECK(json["schedules"]["passed"] == false);
  CHECK(contains(changed("kernel/visits", uint64_t(8), 0), "kernel 0: its schedule has "));
}

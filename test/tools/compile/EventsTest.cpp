// What a compile tells while it runs: warnings and remarks of the passes, at once.
#include "compiler/Driver.h"
#include "test/tools/compile/CompileRun.h"

#include <algorithm>
#include <doctest/doctest.h>
#include <mutex>
#include <set>

using namespace calibatt;
using namespace calibatt::test;

namespace {

/// Everything told, in the order it came.
struct Heard {
  std::vector<std::string> lines;
  CompileEvents events;

  Heard() {
    events.warning = [this](const std::string &line) { add("warning: " + line); };
    events.remark = [this](const std::string &line) { add("remark: " + line); };
    events.layerRemark = [this](const std::string &line) { add("layer: " + line); };
    events.progress = [this](std::string_view phase, size_t done, size_t) {
      add("progress: " + std::string(phase) + " " + std::to_string(done));
    };
  }
  void add(const std::string &line) {
    std::lock_guard lock(mutex);
    lines.push_back(line);
  }
  size_t position(const std::string &start) const {
    return size_t(std::find_if(lines.begin(), lines.end(),
                               [&](const std::string &line) { return line.starts_with(start); }) -
                  lines.begin());
  }

private:
  std::mutex mutex;
};

CompileOptions dryRun(const ProfileFolder &folder) {
  CompileOptions options;
  options.profile = folder.profile;
  options.dryRun = true;
  return options;
}

} // namespace

TEST_CASE("a warning of a pass comes before its layer is done, naming file, layer, head and step") {
  ProfileFolder folder;
  CompileOptions options = dryRun(folder);
  options.form = Form::Schedule;
  options.unrollBudgetBytes = 1;
  options.perHead = true;
  Heard heard;
  auto report = compilePackage(options, heard.events);
  REQUIRE_MESSAGE(report, (report ? "" : report.message()));
  std::set<std::string> sites;
  for (int layer = 0; layer < 2; ++layer) {
    std::string where = "warning: " + folder.profile + ": layer " + std::to_string(layer);
    CHECK(heard.position(where) <
          heard.position("progress: lowering layers " + std::to_string(layer + 1)));
    for (int head = 0; head < 2; ++head)
      for (int step = 0; step < 2; ++step) {
        std::string site = where + " head " + std::to_string(head) + " step " +
                           std::to_string(step) + ": form schedule was asked for, over the budget";
        CHECK_MESSAGE(heard.position(site) < heard.lines.size(), site);
      }
  }
  // Warnings are told, not stored: the reason of the kernel says the same.
  for (const std::string &remark : report->remarks)
    CHECK(!contains(remark, "over the budget"));

  options.perHead = false;
  Heard steps;
  REQUIRE(compilePackage(options, steps.events));
  CHECK(steps.position("warning: " + folder.profile + ": layer 1 step 0: form schedule") <
        steps.lines.size());
}

TEST_CASE("warnings are told even where the compile then fails") {
  ProfileFolder folder;
  CompileOptions options = dryRun(folder);
  options.form = Form::Schedule;
  options.unrollBudgetBytes = 1;
  options.jobs = 1;
  Heard heard;
  std::atomic<bool> stop{false};
  heard.events.cancel = &stop;
  heard.events.warning = [&](const std::string &line) {
    heard.add("warning: " + line);
    stop = true;
  };
  auto report = compilePackage(options, heard.events);
  REQUIRE(!report);
  CHECK(report.message() == "interrupted");
  CHECK(heard.position("warning: ") < heard.lines.size());
  CHECK(heard.position("warning: " + folder.profile + ": layer 1") == heard.lines.size());
}

TEST_CASE("remarks of passes are told once each, and the report has the same") {
  ProfileFolder folder;
  CompileOptions options = dryRun(folder);
  options.shareStepsTau = 0.01;
  Heard heard;
  auto report = compilePackage(options, heard.events);
  REQUIRE(report);
  std::vector<std::string> told, stored;
  for (const std::string &line : heard.lines)
    if (!line.starts_with("progress: "))
      told.push_back(line.substr(line.find(": ") + 2));
  stored = report->remarks;
  REQUIRE(stored.size() >= 4); // every head of both layers shares its steps
  std::sort(told.begin(), told.end());
  std::sort(stored.begin(), stored.end());
  CHECK(told == stored);
  CHECK(heard.position("layer: layer 0 head 1: steps 0 to 1 share 1 mask") <
        heard.position("progress: lowering layers 1"));
}

TEST_CASE("the program prints warnings, and remarks of layers where they are asked for") {
  ProfileFolder folder;
  std::vector<std::string> arguments = {
      folder.profile, "--dry-run",       "--json", "--share-steps", "0.01", "--form",
      "schedule",     "--unroll-budget", "1"};
  ToolRun quiet = runCompile(arguments);
  arguments.push_back("--remarks");
  ToolRun all = runCompile(arguments);
  REQUIRE_MESSAGE(quiet.exitCode == 0, quiet.err);
  REQUIRE_MESSAGE(all.exitCode == 0, all.err);
  for (const ToolRun *run : {&quiet, &all})
    CHECK_MESSAGE(contains(run->err, "calibatt-compile: warning: " + folder.profile +
                                         ": layer 0 step 0: form schedule was asked for"),
                  run->err);
  CHECK_MESSAGE(
      contains(all.err, "calibatt-compile: remark: layer 0 head 1: steps 0 to 1 share 1 "),
      all.err);
  CHECK(!contains(quiet.err, "remark: layer 0"));
  CHECK_MESSAGE(contains(quiet.err, "calibatt-compile: remark: 4 remarks on single layers and "
                                    "heads: --remarks prints them, the report has them\n"),
                quiet.err);
  CHECK(!contains(all.err, "--remarks prints"));
  nlohmann::json one = nlohmann::json::parse(quiet.out), two = nlohmann::json::parse(all.out);
  CHECK(one["remarks"].size() >= 4);
  CHECK(one["remarks"] == two["remarks"]);
}

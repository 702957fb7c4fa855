// `calibatt inspect` on a package of every form.
#include "test/tools/MaskDecoding.h"
#include "test/tools/SamplePackage.h"
#include "test/tools/ToolRun.h"

#include <algorithm>
#include <cmath>
#include <doctest/doctest.h>
#include <filesystem>
#include <fmt/format.h>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <random>

using namespace calibatt;
using namespace calibatt::test;
using Json = nlohmann::json;

namespace {

/// The sample on disk.
struct Fixture {
  TemporaryFolder folder;
  Sample sample;
  std::string package = folder.file("sample.calibatt");
  Fixture() { sample.writePackage(package); }

  Json json(std::vector<std::string> arguments) const {
    arguments.push_back("--json");
    ToolRun run = runTool(arguments);
    REQUIRE_MESSAGE(run.exitCode == 0, run.err);
    CHECK(run.err == "");
    return Json::parse(run.out);
  }
};

size_t countLines(const std::string &text) {
  return size_t(std::count(text.begin(), text.end(), '\n'));
}

} // namespace

TEST_CASE_FIXTURE(Fixture, "info tells the problem, the sizes, the forms and the remarks") {
  Json info = json({"inspect", "info", package});
  CHECK(info["problem"]["model"] == "sample");
  CHECK(info["problem"]["tokens"] == kTokens);
  CHECK(info["problem"]["blocks"] == kBlocks);
  CHECK(info["sites"] == kLayers * kHeads * kSteps);
  CHECK(info["kernels"] == kLayers * kSteps + 1);
  CHECK(info["remarks"] == Json({"one remark of the compile"}));
  CHECK(info["file_bytes"] == readBytes(package).size());
  uint64_t sections = 0;
  for (const Json &section : info["sections"])
    sections += section["bytes"].get<uint64_t>();
  CHECK(sections > 0);
  CHECK(sections <= info["file_bytes"]);
  std::map<std::string, Json> forms;
  for (const Json &form : info["forms"])
    forms[form["form"]] = form;
  REQUIRE(forms.size() == 4);
  for (const char *form : {"full", "schedule", "table"}) {
    CHECK(forms[form]["kernels"] == 2);
    CHECK(forms[form]["sites"] == 2 * kHeads);
  }
  CHECK(forms["runs"]["kernels"] == 3);
  CHECK(forms["full"]["schedule_bytes"] == 0);
  CHECK(forms["runs"]["schedule_bytes"] > 0);

  double computed = 0, least = 1;
  for (const BlockMask &mask : sample.masks) {
    computed += mask.density() / double(sample.masks.size());
    least = std::min(least, mask.density());
  }
  CHECK(info["computed"]["mean"].get<double>() == doctest::Approx(computed));
  CHECK(info["computed"]["min"].get<double>() == doctest::Approx(least));
  CHECK(info["computed"]["max"] == 1.0);
  CHECK(info["predicted_us"] == 12.5 * kLayers * kSteps);

  double shares = 0;
  for (const Json &section : info["sections"])
    shares += section["share"].get<double>();
  CHECK(shares == doctest::Approx(double(sections) / info["file_bytes"].get<double>()));
  CHECK(info["kept_mass"]["max"].get<double>() == doctest::Approx(0.9));

  ToolRun text = runTool({"inspect", "info", package});
  CHECK(text.exitCode == 0);
  for (const char *part : {"sample", "kept mass", "share", "one remark of the compile", "sm_90a"})
    CHECK_MESSAGE(contains(text.out, part), text.out);
  CHECK_MESSAGE(!contains(text.out, "\x1b"), "colour without a terminal");
}

TEST_CASE_FIXTURE(Fixture, "info tells whether the masks are the profile's or supersets of them") {
  CHECK(json({"inspect", "info", package})["superset_passes"] == Json::array());
  CHECK(contains(runTool({"inspect", "info", package}).out, "the profile's\n"));
  sample.supersetPasses = {{kShareStepsPass, 0.97}, {"another-pass", 2}};
  sample.writePackage(package);
  CHECK(json({"inspect", "info", package})["superset_passes"] ==
        Json::parse(R"([{"name": "share-steps", "bound": 0.97},
                        {"name": "another-pass", "bound": 2.0}])"));
  CHECK(contains(runTool({"inspect", "info", package}).out,
                 "supersets of the profile's: share-steps 0.97, another-pass 2\n"));
}

TEST_CASE_FIXTURE(Fixture, "info tells what is shared and which heads are repetitive") {
  Json info = json({"inspect", "info", package});
  // Every kernel serves the two heads of its step; equal masks may share a schedule.
  CHECK(info["sharing"]["kernels"]["count"] == kLayers * kSteps);
  CHECK(info["sharing"]["kernels"]["mean_sites"] == kHeads);
  CHECK(info["sharing"]["kernels"]["most_sites"] == kHeads);
  std::map<std::string, uint32_t> schedules;
  for (uint32_t layer = 0; layer < kLayers; ++layer)
    for (uint32_t step = 0; step < kSteps; ++step) {
      // In layer 1 the schedule is code, which names its step.
      std::string key = layer ? fmt::format("{}", step) : "";
      for (uint32_t head = 0; head < kHeads; ++head)
        for (uint8_t byte : sample.mask(layer, head, step).bytes())
          key += fmt::format("{:02x}", byte);
      schedules[key + (layer == 0 && step % 2 ? "table" : "")] += kHeads;
    }
  uint32_t most = 0;
  for (const auto &[key, sites] : schedules)
    most = std::max(most, sites);
  CHECK(info["sharing"]["schedules"]["count"] == schedules.size());
  CHECK(info["sharing"]["schedules"]["most_sites"] == most);
  CHECK(info["sharing"]["schedules"]["mean_sites"].get<double>() ==
        doctest::Approx(double(kLayers * kHeads * kSteps) / double(schedules.size())));

  CHECK(info["repetitive"] ==
        Json({{"gamma", kGamma},
              {"anchors", kAnchors},
              {"sites", 1},
              {"heads", {{{"layer", kLayers - 1}, {"head", kHeads - 1}, {"steps", 1}}}}}));
  ToolRun text = runTool({"inspect", "info", package});
  CHECK_MESSAGE(contains(text.out, "1 of 16 sites, in 1 head"), text.out);
  CHECK_MESSAGE(contains(text.out, "8 kernels: 2.0 sites a kernel on average, 2 at most"),
                text.out);
}

TEST_CASE_FIXTURE(Fixture, "ls lists every site once, and filters") {
  Json all = json({"inspect", "ls", package});
  CHECK(all["matched"] == kLayers * kHeads * kSteps);
  REQUIRE(all["sites"].size() == kLayers * kHeads * kSteps);
  size_t i = 0;
  for (uint32_t layer = 0; layer < kLayers; ++layer)
    for (uint32_t head = 0; head < kHeads; ++head)
      for (uint32_t step = 0; step < kSteps; ++step) {
        const Json &site = all["sites"][i++];
        CHECK(site["layer"] == layer);
        CHECK(site["head"] == head);
        CHECK(site["step"] == step);
        CHECK(site["computed"].get<double>() ==
              doctest::Approx(sample.mask(layer, head, step).density()));
        CHECK(site["registers"] == 168);
        CHECK(site["code_bytes"] == 4321);
        CHECK((site["data_bytes"] == 0) == (layer == 1));
      }
  CHECK(json({"inspect", "ls", package, "--layer", "1"})["sites"].size() == kHeads * kSteps);
  Json one = json({"inspect", "ls", package, "--layer", "1", "--head", "0", "--step", "3"});
  REQUIRE(one["sites"].size() == 1);
  CHECK(one["sites"][0]["form"] == "schedule");
  Json limited = json({"inspect", "ls", package, "--limit", "3"});
  CHECK(limited["sites"].size() == 3);
  CHECK(limited["matched"] == kLayers * kHeads * kSteps);
  ToolRun text = runTool({"inspect", "ls", package});
  CHECK(countLines(text.out) == 2 + kLayers * kHeads * kSteps);
  CHECK(contains(text.out, "\n  r: repetitive;"));

  ToolRun outside = runTool({"inspect", "ls", package, "--layer", "2"});
  CHECK(outside.exitCode == 1);
  CHECK(contains(outside.err, "layer 2: the package has layers 0..1"));
}

TEST_CASE_FIXTURE(Fixture, "the costs of sites add up to those of the launches") {
  auto check = [&](double repetitive) {
    const Json all = json({"inspect", "ls", package});
    uint64_t visits = 0, launchedVisits = 0;
    double micros = 0, launchedMicros = 0;
    for (const Json &site : all["sites"]) {
      visits += site["visits"].get<uint64_t>();
      micros += site["predicted_us"].get<double>();
      const BlockMask &mask = sample.mask(site["layer"], site["head"], site["step"]);
      const double wanted = site["repetitive"] ? repetitive : mask.density();
      CHECK(site["computed"].get<double>() == doctest::Approx(wanted));
      CHECK(site["visits"] == std::llround(wanted * kBlocks * kBlocks));
    }
    REQUIRE(all["kernels"].size() == kLayers * kSteps);
    for (const Json &kernel : all["kernels"]) {
      CHECK(kernel["launches"] == 1);
      launchedVisits += kernel["visits"].get<uint64_t>();
      launchedMicros += kernel["predicted_us"].get<double>();
    }
    CHECK(visits == launchedVisits);
    CHECK(micros == doctest::Approx(launchedMicros));
    const Json info = json({"inspect", "info", package});
    CHECK(info["visits"] == visits);
    CHECK(info["predicted_us"].get<double>() == doctest::Approx(micros));
    CHECK(info["computed"]["mean"].get<double>() ==
          doctest::Approx(double(visits) / (16.0 * kBlocks * kBlocks)));
  };
  check(1); // its kernel copies nothing
  sample.packed = true;
  sample.writePackage(package);
  check(0.75);
  // Masks that a pass made larger than the profile's.
  sample.profileShare = 0.5f;
  sample.supersetPasses = {{kShareStepsPass, 0.5}};
  sample.writePackage(package);
  check(0.75);
  CHECK(json({"inspect", "info", package})["computed"]["min"] == nullptr);
}

TEST_CASE_FIXTURE(Fixture,
                  "show draws the anchor rows of a repetitive site, and says what is copied") {
  sample.packed = true;
  sample.writePackage(package);
  ToolRun text = runTool({"inspect", "show", package, "1,1,3"});
  REQUIRE_MESSAGE(text.exitCode == 0, text.err);
  for (const char *part :
       {"12 of the 16 visits of dense attention (75.0 %)", "packed tiles",
        "spatial rows 0, 2, 3, 4, 6 of the 7 a frame are computed, 300 queries packed into 3 of 4 "
        "tiles; the other rows are copies",
        "darker: more spatial rows computed"})
    CHECK_MESSAGE(contains(text.out, part), text.out);
  CHECK(contains(text.out, "\n           0-2       4  0-3\n"));
  const TextBox box = boxOf(text.out);
  REQUIRE(box.lines.size() == 2 * kBlocks);
  // 64 tokens a line: none is all computed, the last has none.
  for (uint32_t line = 0; line < 2 * kBlocks; ++line)
    CHECK((box.lines[line].find_first_not_of(U" |") == std::u32string::npos) ==
          (line == 2 * kBlocks - 1));
  CHECK(box.lines[0].find(U'#') == std::u32string::npos);
  const Json schedule = json({"inspect", "show", package, "1,1,3"})["schedule"];
  CHECK(schedule["tiles"] == 3);
  CHECK(schedule["anchor_rows"] == Json({0, 2, 3, 4, 6}));
  CHECK(
      contains(runTool({"inspect", "ls", package, "--layer", "1", "--step", "3"}).out, "75.0 % r"));
}

TEST_CASE_FIXTURE(Fixture, "show prints exactly the blocks of the mask, in every form") {
  for (uint32_t layer = 0; layer < kLayers; ++layer)
    for (uint32_t head = 0; head < kHeads; ++head)
      for (uint32_t step = 0; step < kSteps; ++step) {
        const BlockMask &mask = sample.mask(layer, head, step);
        std::string site = fmt::format("{},{},{}", layer, head, step);
        Json shown = json({"inspect", "show", package, site});
        BlockMask read(kBlocks, kBlocks);
        REQUIRE(shown["schedule"]["rows"].size() == kBlocks);
        for (const Json &row : shown["schedule"]["rows"])
          for (const Json &run : row["runs"])
            for (uint32_t block = run[0]; block <= run[1]; ++block)
              read.set(row["row"], block);
        CHECK(read == mask);

        ToolRun text =
            runTool({"inspect", "show", package, "--layer", std::to_string(layer), "--head",
                     std::to_string(head), "--step", std::to_string(step), "--schedule"});
        CHECK(text.exitCode == 0);
        // Four by two characters a block.
        const TextBox box = boxOf(text.out);
        REQUIRE(box.lines.size() == 2 * kBlocks);
        for (uint32_t row = 0; row < kBlocks; ++row)
          for (uint32_t col = 0; col < kBlocks; ++col)
            CHECK((box.lines[2 * row].substr(4 * col, 4) == U"####") == mask.get(row, col));
      }
}

TEST_CASE_FIXTURE(Fixture, "show prints IR, CUDA and PTX, and says when it cannot disassemble") {
  CHECK(runTool({"inspect", "show", package, "1,0,0", "--ir"}).out == "module @layer_1 {}\n");
  CHECK(contains(runTool({"inspect", "show", package, "1,0,0", "--cuda"}).out, "p.visit<0, "));
  CHECK(contains(runTool({"inspect", "show", package, "1,0,1", "--cuda"}).out, "p.run<0, "));
  const ToolRun ptx = runTool({"inspect", "show", package, "0,0,1", "--ptx"});
  CHECK(ptx.out.starts_with("// PTX of calibatt_table_"));
  CHECK(json({"inspect", "show", package, "0,0,1", "--ptx"})["ptx"] == ptx.out);
  if (!std::filesystem::exists("/usr/local/cuda/bin")) {
    ToolRun none = runTool({"inspect", "show", package, "0,0,0", "--sass"},
                           {"PATH=/nowhere", "CUDA_HOME=/nowhere"});
    CHECK(none.exitCode == 1);
    CHECK(contains(none.err, "no disassembler"));
  }
  std::ofstream(folder.file("nvdisasm"))
      << "#!/bin/sh\necho \"SASS, $(head -c 4 $2 | tail -c 3)\"\n";
  std::filesystem::permissions(folder.file("nvdisasm"), std::filesystem::perms::owner_all);
  ToolRun sass = runTool({"inspect", "show", package, "0,0,0", "--sass"},
                         {"PATH=" + folder.path.string() + ":/usr/bin:/bin"});
  CHECK_MESSAGE(sass.exitCode == 0, sass.err);
  CHECK(sass.out == "SASS, ELF\n");
}

TEST_CASE_FIXTURE(Fixture, "a site that is not there is one clear error") {
  ToolRun outside = runTool({"inspect", "show", package, "0,2,0"});
  CHECK(outside.exitCode == 1);
  CHECK(contains(outside.err, package + ": head 2: the package has heads 0..1"));
  for (const char *site : {"0,0", "0,0,0,0", "a,b,c", "0,0,-1", "0,0,99999999999", ",,"}) {
    ToolRun malformed = runTool({"inspect", "show", package, site});
    CHECK(malformed.exitCode == 2);
    CHECK_MESSAGE(contains(malformed.err, "wanted LAYER,HEAD,STEP"), malformed.err);
  }
  ToolRun none = runTool({"inspect", "show", package, "--layer", "0"});
  CHECK(none.exitCode == 2);
  CHECK(contains(none.err, "no site"));
}

TEST_CASE_FIXTURE(Fixture, "extract writes files in which the schedule is materialised") {
  std::string out = folder.file("out/deep");
  Json extracted = json({"inspect", "extract", package, "0,1,2", "-o", out});
  std::vector<uint8_t> image = buildScheduleImage(scheduleOf(sample, 0, 2), Form::Runs);
  CHECK(readBytes(out + "/L0-H1-S2.schedule") == image);
  for (const char *file : {"/L0-H1-S2.cubin", "/L0-H1-S2.fatbin"}) {
    std::vector<uint8_t> bytes = readBytes(out + file);
    CHECK(std::search(bytes.begin(), bytes.end(), image.begin(), image.end()) != bytes.end());
  }
  CHECK(extracted["files"].size() == 4);
  for (const Json &file : extracted["files"])
    CHECK(readBytes(file["path"]).size() == file["bytes"]);
  CHECK(json({"inspect", "extract", package, "1,1,0", "-o", out})["files"].size() == 3);

  ToolRun unwritable = runTool({"inspect", "extract", package, "0,1,2", "-o", package + "/sub"});
  CHECK(unwritable.exitCode == 1);
  CHECK(contains(unwritable.err, package + "/sub"));
}

TEST_CASE_FIXTURE(Fixture, "output that cannot be written exits with 1") {
  ToolRun run =
      runProgram("/bin/sh", {"-c", toolPath() + " inspect ls " + package + " >/dev/full"});
  CHECK(run.exitCode == 1);
  CHECK(contains(run.err, "stdout: cannot write"));
}

TEST_CASE_FIXTURE(Fixture, "missing, truncated and foreign packages are one clear error each") {
  std::string bad = folder.file("bad.calibatt");
  auto expectFailure = [&](const std::string &path) {
    ToolRun run = runTool({"inspect", "info", path});
    CHECK(run.exitCode == 1);
    CHECK(run.out == "");
    CHECK_MESSAGE(contains(run.err, "calibatt: error: " + path), run.err);
    CHECK(countLines(run.err) == 1);
  };
  expectFailure(bad);
  expectFailure(folder.path.string());
  std::vector<uint8_t> whole = readBytes(package);
  for (size_t size :
       {size_t(0), size_t(7), size_t(8), size_t(1000), whole.size() / 2, whole.size() - 1}) {
    writeBytes(bad, {whole.begin(), whole.begin() + int64_t(size)});
    expectFailure(bad);
  }
  std::string profile = folder.file("p.calib.safetensors");
  sample.writeProfile(profile);
  expectFailure(profile);
}

TEST_CASE_FIXTURE(Fixture, "a flipped byte never crashes a command") {
  std::mt19937 random(sample.seed);
  INFO("seed ", sample.seed);
  std::vector<uint8_t> whole = readBytes(package);
  std::string bad = folder.file("bad.calibatt");
  for (int i = 0; i < 24; ++i) {
    std::vector<uint8_t> bytes = whole;
    size_t at = random() % bytes.size();
    bytes[at] ^= uint8_t(1 + random() % 255);
    writeBytes(bad, bytes);
    const std::string site = fmt::format("{},0,{}", i % 2, i % 4);
    for (const std::vector<std::string> &command :
         {std::vector<std::string>{"inspect", "show", bad, site},
          {"inspect", "mask", bad, site, "--png", folder.file("m.png")}}) {
      ToolRun run = runTool(command);
      INFO("byte ", at, ": ", run.err);
      CHECK((run.exitCode == 0 || run.exitCode == 1));
      CHECK((run.exitCode == 1) == (run.err != ""));
    }
  }
}

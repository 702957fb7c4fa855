// `calibatt inspect mask` on a package and the profile it was made from.
#include "test/tools/MaskDecoding.h"
#include "test/tools/SamplePackage.h"
#include "test/tools/ToolRun.h"

#include <algorithm>
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <set>

using namespace calibatt;
using namespace calibatt::test;
using Json = nlohmann::json;

namespace {

struct Fixture {
  TemporaryFolder folder;
  Sample sample;
  std::string package = folder.file("sample.calibatt");
  std::string profile = folder.file("sample.calib.safetensors");
  std::string png = folder.file("mask.png");
  Fixture() {
    sample.packed = true;
    sample.writePackage(package);
    sample.writeProfile(profile);
  }

  Json json(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), {"inspect", "mask"});
    arguments.push_back("--json");
    ToolRun run = runTool(arguments);
    REQUIRE_MESSAGE(run.exitCode == 0, run.err);
    CHECK(run.err == "");
    return Json::parse(run.out);
  }
  std::set<std::string> names() const {
    std::set<std::string> found;
    for (const auto &entry : std::filesystem::directory_iterator(folder.path))
      found.insert(entry.path().filename().string());
    return found;
  }
};

bool isRepetitive(uint32_t layer, uint32_t head, uint32_t step) {
  return layer == kLayers - 1 && head == kHeads - 1 && step == kSteps - 1;
}

size_t countLines(const std::string &text) {
  return size_t(std::count(text.begin(), text.end(), '\n'));
}

/// The mask in a text whose blocks are 4 x 2 characters of '#'.
BlockMask textMask(const std::string &text) {
  const TextBox box = boxOf(text);
  BlockMask mask(kBlocks, kBlocks);
  REQUIRE(box.lines.size() == 2 * kBlocks);
  for (uint32_t y = 0; y < 2 * kBlocks; ++y) {
    REQUIRE(box.lines[y].size() == 4 * kBlocks);
    for (uint32_t x = 0; x < 4 * kBlocks; ++x) {
      const bool kept = box.lines[y][x] == U'#' || box.lines[y][x] == U'█';
      if (x % 4 == 0 && y % 2 == 0)
        mask.set(y / 2, x / 4, kept);
      else
        REQUIRE(mask.get(y / 2, x / 4) == kept);
    }
  }
  return mask;
}

} // namespace

TEST_CASE_FIXTURE(Fixture, "a picture decodes to the mask, of a package and of a profile") {
  INFO("seed ", sample.seed);
  for (uint32_t site = 0; site < kLayers * kHeads * kSteps; ++site) {
    const uint32_t layer = site / kSteps / kHeads, head = site / kSteps % kHeads,
                   step = site % kSteps;
    const std::string name = fmt::format("{},{},{}", layer, head, step);
    CAPTURE(name);
    for (const std::string &file : {package, profile})
      for (const char *scale : {"", "1", "3", "17"}) {
        std::vector<std::string> arguments = {file, name, "--png", png};
        if (*scale)
          arguments.insert(arguments.end(), {"--scale", scale});
        const Json report = json(arguments);
        const DecodedPicture picture = readPng(png);
        CHECK(report["png"]["width"] == picture.width);
        CHECK(report["png"]["height"] == picture.height);
        CHECK(report["png"]["bytes"] == readBytes(png).size());
        REQUIRE(report["png"]["maps"].size() == 1);
        const Json &map = report["png"]["maps"][0];
        CHECK(report["sites"][0]["repetitive"] == isRepetitive(layer, head, step));
        if (!isRepetitive(layer, head, step)) {
          CHECK(maskOf(picture, map, kBlocks) == sample.mask(layer, head, step));
          continue;
        }
        // Orange where there are queries, nothing behind the last.
        CHECK(report["sites"][0]["computed"] == 0.75);
        CHECK(report["sites"][0]["anchor_rows"] == Json({0, 2, 3, 4, 6}));
        const double perPixel = 128.0 * kBlocks / map["pixels"].get<double>();
        for (uint32_t y = 0; y < map["pixels"]; ++y)
          for (uint32_t x = 0; x < map["pixels"]; ++x) {
            const auto &[red, green, blue] =
                picture.at(map["x"].get<uint32_t>() + x, map["y"].get<uint32_t>() + y);
            if (y * perPixel < kTokens)
              REQUIRE(red > blue + 10);
            else
              REQUIRE(red <= blue + 10);
          }
      }
  }
}

TEST_CASE_FIXTURE(Fixture, "a contact sheet has the masks of all heads, all steps or all layers") {
  INFO("seed ", sample.seed);
  struct Case {
    std::vector<std::string> site;
    size_t masks;
  };
  for (const std::string &file : {package, profile})
    for (const Case &test :
         {Case{{"0,*,2"}, kHeads}, Case{{"0,1,*"}, kSteps}, Case{{"*,1,0"}, kLayers},
          Case{{"--layer", "0", "--step", "2"}, kHeads}}) {
      std::vector<std::string> arguments = {file, "--png", png};
      arguments.insert(arguments.end(), test.site.begin(), test.site.end());
      const Json report = json(arguments);
      const DecodedPicture picture = readPng(png);
      const Json &maps = report["png"]["maps"];
      REQUIRE(maps.size() == test.masks);
      std::set<std::pair<uint32_t, uint32_t>> places;
      for (const Json &map : maps) {
        CHECK(maskOf(picture, map, kBlocks) == sample.mask(map["layer"], map["head"], map["step"]));
        places.emplace(map["x"], map["y"]);
      }
      CHECK(places.size() == test.masks);
      CHECK(report["sites"].size() == test.masks);
    }
  // The same picture, byte by byte.
  std::vector<uint8_t> first = readBytes(png);
  json({profile, "0,*,2", "--png", png});
  std::vector<uint8_t> second = readBytes(png);
  CHECK(first == second);
  ToolRun text = runTool({"inspect", "mask", profile, "0,*,2", "--png", png});
  CHECK(text.out.starts_with(png + "  2 masks, "));
}

TEST_CASE_FIXTURE(Fixture, "--json has the runs of every row") {
  for (const std::string &file : {package, profile}) {
    const Json report = json({file, "0,*,1"});
    CHECK(report["blocks"] == kBlocks);
    CHECK(report["grid"] == Json({3, 7, 20}));
    REQUIRE(report["sites"].size() == kHeads);
    for (uint32_t head = 0; head < kHeads; ++head) {
      const Json &site = report["sites"][head];
      BlockMask read(kBlocks, kBlocks);
      for (uint32_t row = 0; row < kBlocks; ++row)
        for (const Json &run : site["rows"][row])
          for (uint32_t block = run[0]; block <= run[1]; ++block)
            read.set(row, block);
      CHECK(read == sample.mask(0, head, 1));
      CHECK(site["form"] == (file == package ? Json("table") : Json()));
      CHECK(site["computed"].get<double>() == doctest::Approx(read.density()));
      CHECK(site["anchor_rows"] == Json::array());
    }
  }
}

TEST_CASE_FIXTURE(Fixture,
                  "characters have the right cells, 7 bits where the locale is not UTF-8") {
  INFO("seed ", sample.seed);
  for (uint32_t step = 0; step < kSteps - 1; ++step) {
    const std::string site = fmt::format("1,1,{}", step);
    ToolRun seven = runTool({"inspect", "mask", package, site, "--ascii"}, {"LC_ALL=C"});
    CHECK(seven.exitCode == 0);
    CHECK(textMask(seven.out) == sample.mask(1, 1, step));
    CHECK(std::none_of(seven.out.begin(), seven.out.end(), [](char c) { return c & 0x80; }));
    ToolRun wide = runTool({"inspect", "mask", profile, site, "--characters", "auto"},
                           {"LC_ALL=C.UTF-8", "TERM=xterm"});
    CHECK(wide.exitCode == 0);
    CHECK(contains(wide.out, "█"));
    CHECK(textMask(wide.out) == sample.mask(1, 1, step));
    CHECK_FALSE(contains(wide.out, "\x1b"));
    // Whatever the locale, what is asked for is what is printed.
    for (const std::vector<std::string> &ascii :
         {std::vector<std::string>{"--ascii"}, {"--characters", "ascii"}}) {
      std::vector<std::string> arguments = {"inspect", "mask", package, site};
      arguments.insert(arguments.end(), ascii.begin(), ascii.end());
      CHECK(runTool(arguments, {"LC_ALL=C.UTF-8", "TERM=xterm"}).out == seven.out);
    }
  }
  ToolRun title = runTool({"inspect", "mask", package, "1,0,2", "--ascii"});
  for (const char *part : {"sample", "layer 1, head 0, step 2", "computed", "kept mass 90.0 %",
                           "form full", "4 x 4 blocks of 128 tokens", "3 frames of 7 x 20"})
    CHECK_MESSAGE(contains(title.out, part), title.out);
  // Whatever the model is called.
  sample.model = "m\u00f6del \u6a21";
  sample.writePackage(package);
  ToolRun named = runTool({"inspect", "mask", package, "1,0,2", "--ascii"}, {"LC_ALL=C.UTF-8"});
  CHECK(named.out.starts_with("m?del ?  4 x 4"));
  CHECK(std::none_of(named.out.begin(), named.out.end(), [](char c) { return c & 0x80; }));
  // One below the other.
  ToolRun heads = runTool({"inspect", "mask", profile, "0,*,1", "--ascii"});
  CHECK(contains(heads.out, "layer 0, head 0, step 1"));
  CHECK(contains(heads.out, "layer 0, head 1, step 1"));
}

TEST_CASE_FIXTURE(Fixture, "on a terminal characters are the default, as wide as it is") {
  std::string wide = folder.file("wide.calib.safetensors");
  REQUIRE(runTool({"profile", "synth", "--preset", "wan2.1-1.3b-480p", "--layers", "1", "--heads",
                   "1", "--steps", "1", "-o", wide})
              .exitCode == 0);
  for (uint32_t columns : {70, 130}) {
    ToolRun run = runOnTerminal(toolPath(), {"inspect", "mask", wide, "0,0,0"}, columns,
                                {"LC_ALL=C.UTF-8", "TERM=xterm", "NO_COLOR=1"});
    CHECK(run.exitCode == 0);
    const TextBox box = boxOf(run.out);
    // 256 blocks, two dots a character, a whole number of blocks a dot.
    const uint32_t room = columns - 7, blocksPerDot = (256 + 2 * room - 1) / (2 * room);
    CHECK(box.lines[0].size() == (256 / blocksPerDot + 1) / 2);
    CHECK_FALSE(contains(run.out, "\x1b"));
  }
  ToolRun colour = runOnTerminal(toolPath(), {"inspect", "mask", profile, "0,0,0"}, 80,
                                 {"LC_ALL=C.UTF-8", "TERM=xterm", "NO_COLOR="});
  CHECK(contains(colour.out, "\x1b["));
  // A picture asked for is not printed too.
  ToolRun quiet = runOnTerminal(toolPath(), {"inspect", "mask", profile, "0,0,0", "--png", png},
                                200, {"NO_COLOR=1"});
  CHECK(countLines(quiet.out) == 1);
}

TEST_CASE_FIXTURE(Fixture, "what cannot be drawn is one clear error and leaves no file") {
  const std::set<std::string> before = names();
  struct Case {
    std::vector<std::string> arguments;
    std::string wanted;
    int exitCode = 1;
  };
  const std::string missing = folder.file("none"), foreign = folder.file("foreign");
  writeBytes(foreign, {'n', 'o'});
  const Case cases[] = {
      {{package, "0,2,0"}, package + ": head 2: the package has heads 0..1"},
      {{profile, "0,2,0"}, profile + ": head 2: the profile has heads 0..1"},
      {{package, "2,*,0"}, package + ": layer 2: the package has layers 0..1"},
      {{profile, "0,0,4"}, profile + ": step 4: the profile has steps 0..3"},
      {{package, "0,*,*"}, "more than one of layer, head and step is open", 2},
      {{package, "--layer", "0"}, "more than one of layer, head and step is open", 2},
      {{package, "0/1/2"}, "site \"0/1/2\": wanted LAYER,HEAD,STEP", 2},
      {{package, "0,**,2"}, "site \"0,**,2\": wanted LAYER,HEAD,STEP", 2},
      {{package, "0,1"}, "site \"0,1\": wanted LAYER,HEAD,STEP", 2},
      {{package}, "no site: give LAYER,HEAD,STEP", 2},
      {{missing, "0,0,0"}, missing + ": cannot open"},
      {{foreign, "0,0,0"}, foreign + ": "},
      {{std::string(CALIBATT_SOURCE_DIR) + "/examples/sample/prompt0.safetensors", "0,0,0"},
       "neither a package nor a profile"},
      {{package, "0,0,0", "--png", folder.file("no/such.png")}, folder.file("no/such.png") + ": "},
      {{package, "0,0,0", "--png", folder.path.string()}, folder.path.string() + ": "},
      {{package, "0,0,0", "--png", package}, "is the package; the picture needs another name"},
      {{package, "0,0,0", "--png", "/dev/full"}, "/dev/full: "},
  };
  for (const Case &test : cases) {
    std::vector<std::string> arguments = {"inspect", "mask"};
    arguments.insert(arguments.end(), test.arguments.begin(), test.arguments.end());
    if (std::find(arguments.begin(), arguments.end(), "--png") == arguments.end())
      arguments.insert(arguments.end(), {"--png", png});
    ToolRun run = runTool(arguments);
    INFO(run.err);
    CHECK(run.exitCode == test.exitCode);
    CHECK(run.out == "");
    CHECK(run.err.starts_with("calibatt: error: "));
    CHECK_MESSAGE(contains(run.err, test.wanted), test.wanted);
    CHECK(countLines(run.err) == size_t(test.exitCode));
  }
  std::filesystem::remove(foreign);
  CHECK(names() == before);

  ToolRun pipe = runTool({"inspect", "mask", package, "0,0,0"});
  CHECK(pipe.exitCode == 2);
  CHECK(pipe.out == "");
  CHECK(pipe.err == "calibatt: error: stdout is not a terminal: give --png FILE for a picture, "
                    "--characters auto or --ascii for characters, or --json\n"
                    "Run calibatt inspect mask --help for more.\n");
  // A disk that is full in the middle of the picture.
  ToolRun full = runProgram("/bin/sh", {"-c", "ulimit -f 1; trap '' XFSZ; exec " + toolPath() +
                                                  " inspect mask " + package +
                                                  " 0,0,0 --scale 256 --png " + png});
  CHECK(full.exitCode == 1);
  CHECK_MESSAGE(contains(full.err, png + ": "), full.err);
  CHECK(names() == before);
}

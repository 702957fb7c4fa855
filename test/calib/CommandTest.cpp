// `calibatt calibrate` and `calibatt profile` as a user runs them: exit codes, output, files.
#include "test/calib/RandomInputs.h"
#include "test/calib/RawFile.h"

#include <cstdio>
#include <sys/wait.h>

using namespace calibatt::test;

namespace {

struct Outcome {
  int exitCode;
  std::string output; ///< stdout and stderr
};

Outcome run(const std::string &arguments) {
  FILE *pipe = popen((CALIBATT_TOOL " " + arguments + " 2>&1").c_str(), "r");
  REQUIRE(pipe != nullptr);
  Outcome outcome;
  char buffer[4096];
  for (size_t n; (n = std::fread(buffer, 1, sizeof buffer, pipe)) > 0;)
    outcome.output.append(buffer, n);
  outcome.exitCode = WEXITSTATUS(pclose(pipe));
  return outcome;
}

const std::string kSample = CALIBATT_SOURCE_DIR "/examples/sample/prompt";

std::string sample(int prompt) { return kSample + std::to_string(prompt) + ".safetensors"; }

} // namespace

TEST_CASE("calibrate makes the same profile of the sample for any -j and order") {
  ScratchFolder folder;
  const std::string one = folder.file("one"), two = folder.file("two");
  const Outcome text =
      run("calibrate " + sample(0) + " " + sample(1) + " " + sample(2) + " -j 1 -o " + one);
  CHECK(text.exitCode == 0);
  CHECK(text.output.find("3 x 7 x 20") != std::string::npos);
  CHECK(text.output.find("repetitive") != std::string::npos);
  const Outcome json =
      run("calibrate " + sample(2) + " " + sample(0) + " " + sample(1) + " -j 3 --json -o " + two);
  CHECK(json.exitCode == 0);
  const auto report = nlohmann::json::parse(json.output);
  CHECK(report["tokens"] == 420);
  CHECK(report["blocks"] == 4);
  CHECK(report["prompts"] == 3);
  CHECK(report["per_layer"].size() == 2);
  CHECK(report["per_step"].size() == 4);
  CHECK(fileBytes(one) == fileBytes(two));

  const Outcome info = run("profile info --json " + one);
  CHECK(info.exitCode == 0);
  auto again = nlohmann::json::parse(info.output);
  again["file"] = report["file"];
  CHECK(again == report);
}

TEST_CASE("the criterion of calibrate can be set, and a stricter one keeps more") {
  ScratchFolder folder;
  auto density = [&](const std::string &options) {
    const Outcome made =
        run("calibrate " + sample(0) + " --gamma 2 --json -o " + folder.file("p") + " " + options);
    CHECK(made.exitCode == 0);
    return nlohmann::json::parse(made.output)["all"]["density"].get<double>();
  };
  CHECK(density("--a 0.5 --c 0.5 --k 0") < density("--a 0.95 --c 0.95 --k 0"));
  CHECK(density("--a 1 --c 1") == 1);
}

TEST_CASE("synth makes the same bytes for any -j") {
  ScratchFolder folder;
  const std::string part = "profile synth --preset wan2.1-1.3b-480p --layers 2 --heads 3 --steps 2";
  CHECK(run(part + " -j 1 -o " + folder.file("one")).exitCode == 0);
  CHECK(run(part + " -j 4 -o " + folder.file("four")).exitCode == 0);
  CHECK(fileBytes(folder.file("one")) == fileBytes(folder.file("four")));
  CHECK(run(part + " --seed 9 -o " + folder.file("nine")).exitCode == 0);
  CHECK(fileBytes(folder.file("one")) != fileBytes(folder.file("nine")));
}

TEST_CASE("import converts bitmaps, and refuses an empty row by its site without leaving a file") {
  ScratchFolder folder;
  RawFile raw{"calibatt",
              {{"format", "calibatt.bitmaps"},
               {"version", "1.0"},
               {"model", "m"},
               {"grid", {1, 3, 128}},
               {"layers", 1},
               {"heads", 1},
               {"head_dim", 128},
               {"steps", {{{"timestep", 1}, {"sigma", 1}}}}},
              {{"mask/0/0", {calibatt::DType::U8, {1, 3, 1}, {7, 2, 5}}}}};
  raw.save(folder.file("masks"));
  const std::string import = "profile import " + folder.file("masks") + " -o " + folder.file("p");
  const Outcome good = run(import + " --json --model other");
  CHECK(good.exitCode == 0);
  const auto report = nlohmann::json::parse(good.output);
  CHECK(report["model"] == "other");
  CHECK(report["all"]["density"].get<double>() == doctest::Approx(6.0 / 9));
  std::filesystem::remove(folder.file("p"));

  raw.tensors["mask/0/0"].bytes[1] = 0;
  raw.save(folder.file("masks"));
  const Outcome bad = run(import);
  CHECK(bad.exitCode == 1);
  CHECK(bad.output == "calibatt: error: " + folder.file("masks") +
                          ": mask/0/0: layer 0, head 0, step 0: row 1 keeps no key block, wanted "
                          "at least one\n");
  CHECK(folder.files() == 1);
}

TEST_CASE("what cannot be done is exit 1 with one line, a wrong command line is exit 2") {
  ScratchFolder folder;
  for (const std::string &arguments :
       {"profile info " + folder.file("none"), "profile info " + sample(0),
        "calibrate " + folder.file("none") + " -o " + folder.file("p"),
        "calibrate " + sample(0) + " " + sample(0) + " -o " + folder.file("p"),
        "calibrate " + sample(0) + " -o " + folder.file("missing/p"),
        "calibrate " + sample(0) + " --rho 0 -o " + folder.file("p"),
        "profile synth --preset tiny --layers 3 -o " + folder.file("p")}) {
    CAPTURE(arguments);
    const Outcome outcome = run(arguments);
    CHECK(outcome.exitCode == 1);
    CHECK(outcome.output.starts_with("calibatt: error: "));
    CHECK(std::count(outcome.output.begin(), outcome.output.end(), '\n') == 1);
  }
  CHECK(folder.files() == 0);
  for (const char *arguments :
       {"profile", "profile synth -o x", "profile synth --preset none -o x", "profile info",
        "calibrate", "profile synth --preset tiny --steps 0 -o x"}) {
    CAPTURE(arguments);
    CHECK(run(arguments).exitCode == 2);
  }
  CHECK(run("calibrate --help").exitCode == 0);
  CHECK(run("profile synth --help").output.find("wan2.1-14b-720p") != std::string::npos);
}

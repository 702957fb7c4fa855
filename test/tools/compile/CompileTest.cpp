// Packages made from a profile by the real binaries.
#include "calib_profiles/Profile.h"
#include "runtime/format/ContentStore.h"
#include "runtime/format/Package.h"
#include "test/tools/compile/CompileRun.h"

#include <algorithm>
#include <cstring>
#include <doctest/doctest.h>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>

using namespace calibatt;
using namespace calibatt::test;

TEST_CASE("a package tells repetitive sites as its profile does") {
  ProfileFolder folder;
  const std::string path = folder.file("m.calibatt");
  // Gamma at the second lowest score: some sites are repetitive, some are not.
  auto made = ProfileReader::open(folder.profile);
  REQUIRE_MESSAGE(made, made.message());
  ProfileHeader header = made->header();
  std::vector<float> scores;
  for (uint32_t site = 0; site < 8; ++site)
    scores.push_back(made->stats(site / 4, site / 2 % 2, site % 2).repetition);
  std::sort(scores.begin(), scores.end());
  header.criterion.gamma = scores[1];
  header.criterion.anchors = 3;
  const std::string marked = folder.file("marked.calib.safetensors");
  auto writer = ProfileWriter::create(marked, header);
  REQUIRE_MESSAGE(writer, writer.message());
  for (uint32_t i = 0; i < 4; ++i) {
    auto head = made->head(i / 2, i % 2);
    REQUIRE_MESSAGE(head, head.message());
    for (uint32_t step = 0; step < 2; ++step)
      if (head->stats[step].repetition >= header.criterion.gamma) {
        head->masks[head->stepMask[step]] = BlockMask::dense(header.blocks(), header.blocks());
        head->stats[step].density = head->stats[step].keptMass = 1;
      }
    REQUIRE(writer->append(*head));
  }
  REQUIRE(writer->finish());

  const nlohmann::json report = compileJson({marked, "-o", path});
  auto profile = ProfileReader::open(marked);
  REQUIRE_MESSAGE(profile, profile.message());
  auto package = PackageReader::open(path);
  REQUIRE_MESSAGE(package, package.message());
  CHECK(package->manifest().repetition.gamma == header.criterion.gamma);
  CHECK(package->manifest().repetition.anchors == 3);
  uint32_t repetitive = 0;
  for (uint32_t layer = 0; layer < 2; ++layer)
    for (uint32_t head = 0; head < 2; ++head)
      for (uint32_t step = 0; step < 2; ++step) {
        CHECK(package->isRepetitive(layer, head, step) == profile->isRepetitive(layer, head, step));
        repetitive += profile->isRepetitive(layer, head, step);
      }
  CHECK(repetitive == 7);

  // One number, whoever tells it: the share of dense attention's visits that is computed.
  auto told = [](const std::vector<std::string> &arguments) {
    const ToolRun run = runTool(arguments);
    REQUIRE_MESSAGE(run.exitCode == 0, run.err);
    return nlohmann::json::parse(run.out);
  };
  const double computed = report["computed"];
  CHECK(computed < 1);
  CHECK(told({"profile", "info", marked, "--json"})["all"]["computed"].get<double>() ==
        doctest::Approx(computed));
  const nlohmann::json info = told({"inspect", "info", path, "--json"});
  CHECK(info["computed"]["mean"].get<double>() == doctest::Approx(computed));
  CHECK(info["visits"] == report["visits"]);
  CHECK(info["predicted_us"].get<double>() ==
        doctest::Approx(report["predicted_us"].get<double>()));
  const nlohmann::json listed = told({"inspect", "ls", path, "--json"});
  uint64_t visits = 0;
  double micros = 0, drawn = 0;
  for (const nlohmann::json &site : listed["sites"]) {
    visits += site["visits"].get<uint64_t>();
    micros += site["predicted_us"].get<double>();
    const std::string name = std::to_string(site["layer"].get<int>()) + "," +
                             std::to_string(site["head"].get<int>()) + "," +
                             std::to_string(site["step"].get<int>());
    for (const std::string &file : {path, marked})
      drawn +=
          told({"inspect", "mask", file, name, "--json"})["sites"][0]["computed"].get<double>();
  }
  CHECK(visits == report["visits"]);
  CHECK(micros == doctest::Approx(report["predicted_us"].get<double>()));
  CHECK(drawn / 16 == doctest::Approx(computed));
  double launched = 0;
  for (const nlohmann::json &kernel : listed["kernels"])
    launched += kernel["launches"].get<double>() * kernel["predicted_us"].get<double>();
  CHECK(launched == doctest::Approx(micros));

  // The IR's masks are not in its text: that is said, and the text is no silent program without.
  const ToolRun ir = runTool({"inspect", "show", path, "0,0,0", "--ir"});
  CHECK(ir.out.starts_with("// The data of dense_resource attributes"));
  const std::string text = folder.file("layer.mlir");
  writeBytes(text, {ir.out.begin(), ir.out.end()});
  const ToolRun taken = runProgram(CALIBATT_OPT, {text});
  CHECK(taken.exitCode != 0);
  CHECK_MESSAGE(contains(taken.err, "has 0 bytes"), taken.err);
}

TEST_CASE("the same profile gives the same bytes, whatever the jobs, and as packaged kernels") {
  ProfileFolder folder;
  std::string one = folder.file("one.calibatt"), two = folder.file("two.calibatt");
  nlohmann::json report =
      compileJson({folder.profile, "-o", one, "-j", "1", "--report", folder.file("r.json")});
  compileJson({folder.profile, "-o", two, "-j", "3"});
  CHECK(readBytes(one) == readBytes(two));

  auto package = PackageReader::open(one);
  REQUIRE_MESSAGE(package, package.message());
  CHECK(package->codeCount() == report["code_images"].size());
  CHECK(package->kernelCount() == report["kernels"].size());
  CHECK(package->dataCount() == report["data_images"]);
  CHECK(report["package_bytes"] == package->fileBytes());
  const Problem &problem = package->manifest().problem;
  REQUIRE(problem.layers == 2);
  REQUIRE(problem.steps == 2);
  for (uint32_t layer = 0; layer < 2; ++layer) {
    for (uint32_t step = 0; step < 2; ++step)
      for (uint32_t head = 0; head < 2; ++head) {
        const KernelRecord &kernel = package->kernel(package->route(layer, head, step));
        CHECK(kernel.layer == layer);
        CHECK(kernel.step == step);
        CHECK(kernel.headBase == 0);
        CHECK(kernel.heads == 2);
        CHECK(kernel.reason != "");
      }
    auto ir = package->ir(layer);
    REQUIRE(ir);
    CHECK(contains(*ir, "sattn.kernel"));
    CHECK(contains(*ir, "sattn.route"));
  }
  const KernelRecord &dense = package->kernel(package->denseKernel());
  CHECK(dense.layer == kNone);
  CHECK(dense.visits == uint64_t(problem.heads) * problem.blocks() * problem.blocks());
  for (uint32_t i = 0; i < package->codeCount(); ++i) {
    const CodeImage &code = package->codeInfo(i);
    CHECK(code.registers > 0);
    CHECK(code.codeBytes > 0);
    CHECK(code.dynamicSmem > 100000);
    auto cuda = package->cuda(i);
    REQUIRE(cuda);
    CHECK(contains(*cuda, code.symbol));
    auto ptx = package->ptx(i);
    REQUIRE(ptx);
    CHECK(contains(*ptx, ".entry " + code.symbol));
  }

  std::ifstream written(folder.file("r.json"));
  nlohmann::json file = nlohmann::json::parse(written);
  CHECK(file == report);
}

TEST_CASE("a compile from the cache gives the same bytes, and so does one from a damaged cache") {
  ProfileFolder folder;
  const std::string plain = folder.file("plain.calibatt"), cache = folder.file("cache");
  const std::string cached = folder.file("cached.calibatt");
  nlohmann::json without = compileJson({folder.profile, "-o", plain});
  CHECK(without["cached_layers"] == 0);
  for (uint32_t expected : {0u, 2u}) {
    nlohmann::json report = compileJson({folder.profile, "-o", cached, "--cache", cache});
    CHECK(report["cached_layers"] == expected);
    CHECK(report["deduplication"] == without["deduplication"]);
    CHECK(report["remarks"] == without["remarks"]);
    CHECK(readBytes(cached) == readBytes(plain));
  }
  // Other options are other layers.
  CHECK(compileJson({folder.profile, "-o", cached, "--cache", cache, "--granularity",
                     "head"})["cached_layers"] == 0);
  size_t damaged = 0;
  for (const auto &entry : std::filesystem::recursive_directory_iterator(cache))
    if (entry.is_regular_file() && entry.path().string().find("/layer/") != std::string::npos) {
      std::vector<uint8_t> bytes = readBytes(entry.path());
      bytes[bytes.size() / 2] ^= 1;
      std::ofstream(entry.path(), std::ios::binary)
          .write(reinterpret_cast<const char *>(bytes.data()), std::streamsize(bytes.size()));
      ++damaged;
    }
  CHECK(damaged == 4);
  nlohmann::json report = compileJson({folder.profile, "-o", cached, "--cache", cache});
  CHECK(report["cached_layers"] == 0);
  CHECK(readBytes(cached) == readBytes(plain));
}

namespace {

/// Changes the JSON header of an entry of a cache, in `Length`'s bytes before it.
template <typename Length>
std::vector<uint8_t> withHeader(const std::vector<uint8_t> &entry,
                                const std::function<void(nlohmann::json &)> &change) {
  Length length = 0;
  std::memcpy(&length, entry.data(), sizeof length);
  const auto begin = entry.begin() + sizeof length, end = begin + int64_t(length);
  nlohmann::json json = nlohmann::json::parse(begin, end);
  change(json);
  const std::string text = json.dump();
  length = Length(text.size());
  std::vector<uint8_t> changed(sizeof length);
  std::memcpy(changed.data(), &length, sizeof length);
  changed.insert(changed.end(), text.begin(), text.end());
  changed.insert(changed.end(), end, entry.end());
  return changed;
}

} // namespace

TEST_CASE("cache entries that are whole, but not what their keys promise, are made again") {
  ProfileFolder folder;
  const std::string plain = folder.file("plain.calibatt"), cache = folder.file("cache");
  const std::vector<std::string> options = {"--form", "runs", "--granularity", "head"};
  auto compile = [&](const std::string &output, const std::string &where) {
    std::vector<std::string> command = {folder.profile, "-o", output};
    command.insert(command.end(), options.begin(), options.end());
    if (!where.empty())
      command.insert(command.end(), {"--cache", where});
    return compileJson(command);
  };
  compile(plain, "");
  const nlohmann::json first = compile(folder.file("m.calibatt"), cache);
  const size_t layers = first["layers"], codes = first["code_images"].size();
  auto opened = ContentStore::openExisting(cache);
  REQUIRE(opened);
  const ContentStore &store = *opened;
  std::map<std::string, std::vector<std::string>> keys;
  for (const auto &entry : std::filesystem::recursive_directory_iterator(cache))
    for (const char *kind : {"layer", "kernel"})
      if (entry.is_regular_file() &&
          entry.path().string().find(std::string("/") + kind + "/") != std::string::npos)
        keys[kind].push_back(entry.path().filename());
  REQUIRE(keys["layer"].size() == layers);
  REQUIRE(keys["kernel"].size() == codes);
  auto check = [&](size_t cachedLayers, size_t cachedCodes) {
    const std::string output = folder.file("again.calibatt");
    const nlohmann::json report = compile(output, cache);
    CHECK(report["cached_layers"] == cachedLayers);
    CHECK(report["cached_code_images"] == cachedCodes);
    CHECK(readBytes(output) == readBytes(plain));
  };
  check(layers, codes);
  // Each under the key of the next.
  for (const auto &[kind, names] : keys) {
    std::vector<std::vector<uint8_t>> contents;
    for (const std::string &name : names)
      contents.push_back(*store.get(kind, name));
    for (size_t i = 0; i < names.size(); ++i)
      REQUIRE(store.put(kind, names[i], contents[(i + 1) % names.size()]));
  }
  check(layers > 1 ? 0 : layers, codes > 1 ? 0 : codes);
  check(layers, codes);

  const std::string key = keys["layer"].front();
  const std::vector<uint8_t> good = *store.get("layer", key);
  using Json = nlohmann::json;
  const std::function<void(Json &)> lies[] = {
      [](Json &json) { json["made_from"] = json["made_from"].get<std::string>() + " "; },
      [](Json &json) {
        json["kernels"][0]["visits"] = json["kernels"][0]["visits"].get<int>() + 1;
      },
      [](Json &json) { json["kernels"][0]["layer"] = 7; },
      [](Json &json) { json["kernels"][0]["step"] = 99; },
      [](Json &json) { json["kernels"][0]["heads"] = 0; },
      [](Json &json) { json["kernels"][0]["head_base"] = 4000000000u; },
      [](Json &json) { json["kernels"][0]["schedule"] = 4294967295u; },
      [](Json &json) { json["kernels"][0]["form"] = 0; },
      [](Json &json) { json["kernels"][0]["data_bytes"] = 1; },
      [](Json &json) { json["kernels"][0]["order_rule"] = 0; },
      [](Json &json) { json["sources"][0]["symbol"] = "calibatt_runs_0123456789abcdef"; },
      [](Json &json) { json["schedules"][0]["tokens"] = 1; },
      [](Json &json) { json["schedules"][0]["heads"] = 2; },
      [](Json &json) { json["schedules"][0]["visits"] = 1; },
      [](Json &json) { json["schedules"][0]["form"] = 3; },
      [](Json &json) { json["schedules"][0]["frame"] = 1; },
      [](Json &json) { json["schedules"][0]["raw"] = 1; },
      [](Json &json) { json["ir"]["raw"] = json["ir"]["raw"].get<uint64_t>() + 1; },
      [](Json &json) { json["routes"][1] = 99; },
      [](Json &json) { json["routes"][2] = 99999; },
      [](Json &json) {
        json["routes"][3] = json["routes"][0], json["routes"][4] = json["routes"][1];
      },
      [](Json &json) { json["routes"] = Json::array(); },
      [](Json &json) { json["ir"]["padded"] = 0; },
      [](Json &json) { json.erase("dedup"); },
      [](Json &json) { json["remarks"] = 3; },
  };
  for (size_t i = 0; i < std::size(lies); ++i) {
    INFO("lie ", i);
    REQUIRE(store.put("layer", key, withHeader<uint64_t>(good, lies[i])));
    check(layers - 1, codes);
    CHECK(store.get("layer", key) == good);
  }
  // Another text under the same symbol.
  std::vector<uint8_t> edited = good;
  const std::string word = "constexpr";
  const auto at = std::search(edited.begin(), edited.end(), word.begin(), word.end());
  REQUIRE(at != edited.end());
  *at = 'C';
  REQUIRE(store.put("layer", key, edited));
  check(layers - 1, codes);
}

TEST_CASE("a dry run counts the kernels and predicts the package's size") {
  ProfileFolder folder;
  const std::string path = folder.file("m.calibatt");
  for (const char *form : {"auto", "schedule", "runs"}) {
    INFO("--form ", form);
    nlohmann::json dry = compileJson({folder.profile, "--dry-run", "--form", form});
    nlohmann::json real = compileJson({folder.profile, "-o", path, "--form", form});
    CHECK(dry["kernels"].size() == real["kernels"].size());
    CHECK(dry["deduplication"] == real["deduplication"]);
    CHECK(dry["predicted_s"] > 0);
    const double predicted = dry["predicted_package_bytes"], got = real["package_bytes"];
    CHECK(predicted > 0.7 * got);
    CHECK(predicted < 1.3 * got);
  }
}

TEST_CASE("every form and granularity computes the blocks of the profile") {
  ProfileFolder folder;
  for (const char *form : {"auto", "schedule", "runs", "table"})
    for (const char *granularity : {"step", "head"}) {
      INFO("--form ", form, " --granularity ", granularity);
      std::string package = folder.file("m.calibatt");
      nlohmann::json report =
          compileJson({folder.profile, "-o", package, "--form", form, "--granularity", granularity,
                       "--cache", folder.file("cache")});
      size_t sites = 0;
      for (const nlohmann::json &kernel : report["kernels"]) {
        sites += kernel["sites"].get<size_t>();
        if (!kernel["dense_fallback"] && std::string(form) != "auto")
          CHECK(kernel["form"] == form);
      }
      CHECK(sites == 8);
      // A kernel a launch and the dense fallback; steps with equal masks share one.
      CHECK(report["kernels"].size() <= (std::string(granularity) == "head" ? 9 : 5));
      ToolRun verify = runTool({"verify", package, "--profile", folder.profile});
      CHECK_MESSAGE(verify.exitCode == 0, verify.out, verify.err);
    }
}

TEST_CASE("the summary of one of each is in the singular") {
  TemporaryFolder folder;
  std::string profile = folder.file("one.calib.safetensors");
  ToolRun synth = runTool({"profile", "synth", "--preset", "tiny", "--layers", "1", "--heads", "1",
                           "--steps", "1", "-o", profile});
  REQUIRE_MESSAGE(synth.exitCode == 0, synth.err);
  CHECK_MESSAGE(contains(synth.out, "1 (1 layer x 1 head x 1 step)"), synth.out);
  ToolRun run = runCompile({profile, "--dry-run", "--form", "runs"});
  REQUIRE_MESSAGE(run.exitCode == 0, run.err);
  CHECK_MESSAGE(contains(run.out, "1 layer x 1 head x 1 step, 560 tokens"), run.out);
  CHECK_MESSAGE(contains(run.out, "2 kernels of 1 code image and 2 data images"), run.out);
  ToolRun table = runCompile({profile, "--dry-run", "--form", "table"});
  CHECK_MESSAGE(contains(table.out, "2 kernels of 2 code images and 2 data images"), table.out);
}

TEST_CASE("a repetitive site is shown with the rows it computes") {
  ProfileFolder folder;
  std::string package = folder.file("m.calibatt");
  compileJson({folder.profile, "-o", package, "--form", "runs"});
  bool found = false;
  for (int step = 0; step < 4 && !found; ++step) {
    ToolRun run =
        runTool({"inspect", "show", package, "0,0," + std::to_string(step), "--schedule"});
    REQUIRE_MESSAGE(run.exitCode == 0, run.err);
    found =
        contains(run.out, "spatial rows 1, 3, 5, 7, 9 of the 10 a frame are computed, 280 queries "
                          "packed into 3 of 5 tiles");
  }
  CHECK(found);
}

TEST_CASE("one data kernel serves a whole model, and one more its repetitive heads") {
  ProfileFolder folder;
  nlohmann::json report =
      compileJson({folder.profile, "-o", folder.file("m.calibatt"), "--form", "runs"});
  CHECK(report["code_images"].size() == 2);
  CHECK(report["kernels"].size() == 5);
}

TEST_CASE("the cache gives the same package without a compile, and a damaged entry is a miss") {
  ProfileFolder folder;
  std::string cache = folder.file("cache");
  auto compile = [&](const std::string &name) {
    return compileJson(
        {folder.profile, "-o", folder.file(name), "--form", "table", "--cache", cache});
  };
  nlohmann::json first = compile("first.calibatt"), second = compile("second.calibatt");
  size_t images = first["code_images"].size();
  CHECK(first["cached_code_images"] == 0);
  CHECK(second["cached_code_images"] == images);
  CHECK(readBytes(folder.file("first.calibatt")) == readBytes(folder.file("second.calibatt")));

  size_t entries = 0;
  for (const auto &entry : std::filesystem::recursive_directory_iterator(cache + "/kernel"))
    if (entry.is_regular_file()) {
      ++entries;
      std::vector<uint8_t> bytes = readBytes(entry.path());
      bytes[bytes.size() / 2] ^= 1;
      writeBytes(entry.path(), bytes);
    }
  CHECK(entries == images);
  CHECK(compile("third.calibatt")["cached_code_images"] == 0);
  CHECK(readBytes(folder.file("first.calibatt")) == readBytes(folder.file("third.calibatt")));
  CHECK(compile("fourth.calibatt")["cached_code_images"] == images);
}

TEST_CASE("a dry run counts and predicts, and needs no NVRTC and no output") {
  ProfileFolder folder;
  ToolRun run =
      runCompile({folder.profile, "--dry-run", "--json"}, {"CALIBATT_NVRTC=/nonexistent"});
  REQUIRE_MESSAGE(run.exitCode == 0, run.err);
  nlohmann::json report = nlohmann::json::parse(run.out);
  CHECK(report["dry_run"] == true);
  CHECK(report["package"].is_null());
  CHECK(report["kernels"].size() == 5);
  double seconds = 0;
  for (const nlohmann::json &code : report["code_images"])
    seconds += code["predicted_compile_s"].get<double>();
  CHECK(seconds > 0);
  CHECK(folder.names() == std::vector<std::string>{"p.calib.safetensors"});
}

TEST_CASE("shared steps share kernels, and every step keeps its blocks") {
  ProfileFolder folder;
  std::string package = folder.file("m.calibatt");
  nlohmann::json report =
      compileJson({folder.profile, "-o", package, "--form", "runs", "--share-steps", "0.01"});
  // With so low a threshold both steps of a layer are one kernel.
  CHECK(report["kernels"].size() == 3);
  for (const nlohmann::json &kernel : report["kernels"])
    CHECK(kernel["sites"] == (kernel["dense_fallback"] ? 0 : 4));
  CHECK(report["remarks"].size() > 0);
  ToolRun verify = runTool({"verify", package, "--profile", folder.profile, "--json"});
  CHECK(verify.exitCode == 0);
  nlohmann::json schedules = nlohmann::json::parse(verify.out)["schedules"];
  CHECK(schedules["checked"] == "superset");
  CHECK(schedules["superset_passes"] ==
        nlohmann::json::parse(R"([{"name": "share-steps", "bound": 0.01}])"));
  CHECK(schedules["only_in_package"] > 0);
  CHECK(schedules["only_in_profile"] == 0);
  CHECK(schedules["added_beyond_bound"] == 0);
}

TEST_CASE("dumps hold the IR of every layer and the text of every kernel") {
  ProfileFolder folder;
  std::string dump = folder.file("dump");
  nlohmann::json report =
      compileJson({folder.profile, "--dry-run", "--form", "schedule", "--dump-ir", dump});
  for (const char *name : {"layer000.mlir", "layer001.mlir", "dense.mlir"})
    CHECK(readBytes(dump + "/" + name).size() > 0);
  for (const nlohmann::json &code : report["code_images"]) {
    std::vector<uint8_t> text = readBytes(dump + "/" + code["symbol"].get<std::string>() + ".cu");
    CHECK(contains({text.begin(), text.end()}, code["symbol"].get<std::string>()));
  }
}

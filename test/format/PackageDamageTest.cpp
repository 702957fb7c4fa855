// Damaged and forged packages: every flipped byte is found, every lie named.
#include "runtime/format/Package.h"
#include "runtime/format/PackageTables.h"
#include "test/format/Forgery.h"
#include "test/format/Samples.h"

#include <doctest/doctest.h>

#include <atomic>
#include <cstring>
#include <functional>
#include <thread>

using namespace calibatt;
using namespace calibatt::test;

namespace {

/// The first error of opening a package and reading all of it; empty if none.
std::string readAll(const std::string &path) {
  Result<PackageReader> package = PackageReader::open(path);
  if (!package)
    return package.message();
  std::string message;
  auto keep = [&](const auto &result) {
    if (!result && message.empty())
      message = result.message();
  };
  for (uint32_t i = 0; i < package->codeCount(); ++i) {
    keep(package->fatbin(i));
    keep(package->cuda(i));
    keep(package->ptx(i));
  }
  for (uint32_t i = 0; i < package->dataCount(); ++i)
    keep(package->data(i));
  for (uint32_t i = 0; i < package->orderCount(); ++i)
    keep(package->order(i));
  for (uint32_t i = 0; i < package->manifest().problem.layers; ++i)
    keep(package->ir(i));
  return message;
}

template <typename T> std::function<void(std::vector<uint8_t> &)> setEntry(size_t i, T value) {
  return [=](std::vector<uint8_t> &bytes) {
    REQUIRE((i + 1) * sizeof(T) <= bytes.size());
    std::memcpy(bytes.data() + i * sizeof(T), &value, sizeof(T));
  };
}

} // namespace

TEST_CASE("a flipped byte anywhere in a package is an error that names the file") {
  Random random;
  INFO("seed ", random.seed);
  ScratchFolder folder;
  std::string path = folder.file("m.calibatt");
  REQUIRE(fill(randomContent(random, 40)).write(path));
  REQUIRE(readAll(path).empty());
  const std::vector<uint8_t> bytes = readBytes(path);
  size_t undetected = 0;
  for (size_t i = 0; i < bytes.size(); ++i) {
    patchByte(path, i, bytes[i] ^ uint8_t(1u << random.integer(0, 7)));
    std::string message = readAll(path);
    patchByte(path, i, bytes[i]);
    INFO("byte ", i, ": ", message);
    undetected += message.empty();
    CHECK((message.empty() || message.find(path + ": ") == 0));
  }
  CHECK(undetected == 0);
}

TEST_CASE("a package cut short anywhere or with bytes after its end is refused") {
  Random random;
  INFO("seed ", random.seed);
  ScratchFolder folder;
  std::string path = folder.file("m.calibatt");
  REQUIRE(fill(randomContent(random, 40)).write(path));
  std::vector<uint8_t> bytes = readBytes(path);
  for (size_t size = 0; size < bytes.size(); size += 1 + random.integer(0, 20)) {
    writeBytes(path, std::span(bytes).first(size));
    CHECK_FALSE(PackageReader::open(path));
  }
  bytes.push_back(0);
  writeBytes(path, bytes);
  CHECK_FALSE(PackageReader::open(path));
}

TEST_CASE("tables that lie are refused by name though their digest is right") {
  Random random;
  INFO("seed ", random.seed);
  ScratchFolder folder;
  std::string path = folder.file("m.calibatt"), forged = folder.file("forged.calibatt");
  PackageContent content = randomContent(random, 40);
  REQUIRE(fill(content).write(path));
  struct Case {
    const char *wanted, *tensor;
    std::function<void(std::vector<uint8_t> &)> change;
  };
  constexpr uint64_t kHuge = ~uint64_t(0);
  const Case cases[] = {
      {"route: layer 0, head 0, step 1: kernel is 1000", "route", setEntry<uint32_t>(1, 1000)},
      {"route: layer 0, head 0, step 0: has no kernel", "route", setEntry<uint32_t>(0, kNone)},
      {"code/form: entry 0 is 4", "code/form", setEntry<uint32_t>(0, 4)},
      {"code/symbol: entry 1 is 500", "code/symbol", setEntry<uint32_t>(1, 500)},
      {"code/fatbin: entry 0 is 2", "code/fatbin", setEntry<uint32_t>(0, 2)},
      {"code/ptx: entry 1 is 4294967295", "code/ptx", setEntry<uint32_t>(1, kNone)},
      {"kernel 0: code is 7", "kernel/code", setEntry<uint32_t>(0, 7)},
      {"kernel 0: data is 4294967295", "kernel/data", setEntry<uint32_t>(0, kNone)},
      {"kernel 2: order is 100", "kernel/order", setEntry<uint32_t>(2, 100)},
      {"kernel 1: order rule is 3", "kernel/order_rule", setEntry<uint32_t>(1, 3)},
      {"kernel 1: has a rule for its order, but also an order", "kernel/order_rule",
       setEntry<uint32_t>(1, 1)},
      {"data/reference: entry 1 is 1, wanted a lower one", "data/reference",
       setEntry<uint32_t>(1, 1)},
      {"data/image_bytes: entry 0 is", "data/image_bytes", setEntry<uint64_t>(0, kHuge)},
      {"data image 0: its rows give", "data/image_bytes", setEntry<uint64_t>(0, 100)},
      {"data image 0: its rows give", "data/image_hash", setEntry<uint64_t>(0, 1)},
      {"kernel 0: has a layer or a step", "kernel/layer", setEntry<uint32_t>(0, kNone)},
      {"kernel 0: covers 2 heads from 4294967295", "kernel/head_base",
       setEntry<uint32_t>(0, kNone)},
      {"kernel 0: covers 0 heads", "kernel/heads", setEntry<uint32_t>(0, 0)},
      {"kernel 0: visits", "kernel/visits", setEntry<uint64_t>(0, kHuge)},
      {"kernel/predicted_us: entry 0", "kernel/predicted_us", setEntry<float>(0, NAN)},
      {"stats/density: entry 3", "stats/density", setEntry<float>(3, INFINITY)},
      {"ir: entry 1 is 99", "ir", setEntry<uint32_t>(1, 99)},
      {"strings/ends: entry 0", "strings/ends", setEntry<uint64_t>(0, kHuge)},
      {"data/chunks: chunk 0", "data/chunks", setEntry<uint64_t>(0, kHuge)},
      {"data/chunks: chunk 0", "data/chunks", setEntry<uint64_t>(0, 0)},
      {"data/chunks: chunk 0", "data/chunks", setEntry<uint64_t>(1, kHuge)},
      {"order/items: entry 0 names chunk", "order/items", setEntry<uint64_t>(0, 9)},
      {"text/items: entry 0 is", "text/items", setEntry<uint64_t>(1, kHuge)},
      {"text/items: entry 0 is", "text/items", setEntry<uint64_t>(2, kHuge - 1)},
      {"order/items: entry 1 starts at byte 16 of its chunk, wanted 2", "order/items",
       setEntry<uint64_t>(2, 2)},
      {"data/chunks: chunk 0 has", "data/chunks", setEntry<uint64_t>(1, uint64_t(1) << 29)},
      {"data/chunks: chunk 0 decodes to", "data/chunks", setEntry<uint64_t>(1, 200000)},
      {"text/items: entry 1 starts at byte 0", "text/items", setEntry<uint64_t>(4, 0)},
  };
  for (const Case &test : cases) {
    forge(path, forged, test.tensor, test.change);
    std::string message = readAll(forged);
    INFO(message);
    CHECK_MESSAGE(message.find(test.wanted) != std::string::npos, test.wanted);
    CHECK(message.find(forged + ": ") == 0);
  }
}

TEST_CASE(
    "an item that decodes to more than the problem can need is refused before it is decoded") {
  Random random;
  INFO("seed ", random.seed);
  ScratchFolder folder;
  const std::string path = folder.file("m.calibatt"), forged = folder.file("forged.calibatt");
  const PackageContent content = randomContent(random, 40);
  REQUIRE(fill(content).write(path));
  const ItemLimits limits = itemLimits(content.manifest.problem);
  // Megabytes, where a model's would be hundreds of them.
  CHECK(limits.text < 5 << 20);
  CHECK(limits.code < 6 << 20);
  CHECK(limits.data < 200);
  struct Case {
    const char *pool;
    uint64_t limit;
  };
  for (const Case &test : {Case{"code", limits.code}, Case{"data", limits.data},
                           Case{"order", limits.order}, Case{"text", limits.text}}) {
    CAPTURE(test.pool);
    auto message = [&](uint64_t bytes) {
      forgeItem(path, forged, test.pool, 0,
                [&](std::vector<uint8_t> &item) { item.assign(bytes, 0); });
      Result<PackageReader> package = PackageReader::open(forged);
      CHECK(std::filesystem::file_size(forged) < 20000);
      return package ? std::string() : package.message();
    };
    const std::string wanted = forged + ": " + test.pool;
    CHECK(message(test.limit + 1)
              .starts_with(test.limit < kChunkBytes ? wanted + "/items: entry 0 has "
                                                    : wanted + "/chunks: chunk 0 has "));
    CHECK_FALSE(message(test.limit).starts_with(wanted + "/"));
  }
  // A chunk of more than its items have.
  forge(path, forged, "text/chunks", setEntry<uint64_t>(1, kChunkBytes));
  CHECK(readAll(forged).starts_with(forged + ": text/chunks: chunk 0 decodes to "));
  // What the reader would refuse is not written.
  PackageContent larger = content;
  larger.codes[0].ptx.assign(limits.text + 1, 'x');
  const Status written = fill(larger).write(folder.file("larger.calibatt"));
  REQUIRE_FALSE(written);
  CHECK(written.message().find("bytes, at most") != std::string::npos);
}

TEST_CASE("what is decoded of a pool stays the same however often and by whom it is asked for") {
  Random random;
  INFO("seed ", random.seed);
  ScratchFolder folder;
  const std::string path = folder.file("m.calibatt");
  PackageContent content = randomContent(random, 40);
  for (CodeImage &code : content.codes) // several chunks
    code.ptx = random.text(random.integer(1, 3) * kChunkBytes / 2);
  REQUIRE(fill(content).write(path));
  Result<PackageReader> package = PackageReader::open(path);
  REQUIRE(package);
  std::atomic<unsigned> wrong{0};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (uint32_t i = 0; i < 40; ++i) {
        const uint32_t code = (i * 7 + t) % uint32_t(content.codes.size());
        Result<std::string> ptx = package->ptx(code), cuda = package->cuda(code);
        wrong +=
            !ptx || !cuda || *ptx != content.codes[code].ptx || *cuda != content.codes[code].cuda;
      }
    });
  for (std::thread &thread : threads)
    thread.join();
  CHECK(wrong == 0);
}

TEST_CASE("a package with a flipped bit in a table names the table") {
  Random random;
  INFO("seed ", random.seed);
  ScratchFolder folder;
  const std::string path = folder.file("m.calibatt");
  REQUIRE(fill(randomContent(random, 40)).write(path));
  const std::vector<uint8_t> bytes = readBytes(path);
  struct Place {
    std::string name;
    uint64_t begin, size;
  };
  std::vector<Place> places;
  {
    Result<SafetensorsReader> file = SafetensorsReader::open(path);
    REQUIRE(file);
    for (const TensorEntry &tensor : file->tensors())
      if (!isPool(tensor.name) && tensor.bytes)
        places.push_back({tensor.name, tensor.offset, tensor.bytes});
  }
  REQUIRE(places.size() > 30);
  for (const Place &place : places) {
    const size_t at = place.begin + random.integer(0, place.size - 1);
    patchByte(path, at, bytes[at] ^ uint8_t(1u << random.integer(0, 7)));
    CHECK(readAll(path).starts_with(path + ": tensor \"" + place.name + "\" is damaged: "));
    patchByte(path, at, bytes[at]);
  }
}

TEST_CASE("manifests that lie are refused by name") {
  Random random;
  INFO("seed ", random.seed);
  ScratchFolder folder;
  std::string path = folder.file("m.calibatt"), forged = folder.file("forged.calibatt");
  REQUIRE(fill(randomContent(random, 40)).write(path));
  struct Case {
    const char *wanted;
    std::function<void(Json &)> change;
  };
  const Case cases[] = {
      {"version is \"1.2\", but this program reads 2.x to 3.x",
       [](Json &j) { j["version"] = "1.2"; }},
      {"version is \"20.0\"", [](Json &j) { j["version"] = "20.0"; }},
      {"version is \"4.0\"", [](Json &j) { j["version"] = "4.0"; }},
      {"version is \"2\"", [](Json &j) { j["version"] = "2"; }},
      {"version is number, wanted a string", [](Json &j) { j["version"] = 1.0; }},
      {"format is \"calibatt.profile\"", [](Json &j) { j["format"] = "calibatt.profile"; }},
      {"format is missing", [](Json &j) { j.erase("format"); }},
      {"problem.layers is 0", [](Json &j) { j["problem"]["layers"] = 0; }},
      {"heads is -1", [](Json &j) { j["problem"]["heads"] = -1; }},
      {"tensor \"route\" is U32 [2, 2, 3], wanted U32 [2, 2, 4]",
       [](Json &j) { j["problem"]["steps"] = 4; }},
      {"steps is 4294967296", [](Json &j) { j["problem"]["steps"] = uint64_t(1) << 32; }},
      {"layers * heads * steps",
       [](Json &j) {
         j["problem"]["steps"] = 65536;
         j["problem"]["layers"] = 65536;
       }},
      {"scale is string", [](Json &j) { j["problem"]["scale"] = "1"; }},
      {"problem.block is 64", [](Json &j) { j["problem"]["block"] = 64; }},
      {"dense_kernel is 9, but there are 7", [](Json &j) { j["dense_kernel"] = 9; }},
      {"archs[0] is number", [](Json &j) { j["archs"] = {90}; }},
      {"superset_passes is object, wanted an array",
       [](Json &j) { j["superset_passes"] = Json::object(); }},
      {"superset_passes[1]: is string, wanted an object",
       [](Json &j) { j["superset_passes"][1] = "share-steps"; }},
      {"superset_passes[0]: bound is missing",
       [](Json &j) { j["superset_passes"][0].erase("bound"); }},
      {"superset_passes[0]: name is number, wanted a string",
       [](Json &j) { j["superset_passes"][0]["name"] = 7; }},
      {"superset_passes[0]: bound of share-steps is 0, wanted more than 0, at most 1",
       [](Json &j) { j["superset_passes"][0]["bound"] = 0; }},
      {"superset_passes[1]: name has 0 bytes, wanted 1 to 100",
       [](Json &j) { j["superset_passes"][1]["name"] = ""; }},
      {"superset_passes[1]: name \"share-steps\" came before",
       [](Json &j) { j["superset_passes"][1]["name"] = "share-steps"; }},
      {"repetition: gamma is string", [](Json &j) { j["repetition"]["gamma"] = "0.87"; }},
      {"repetition is missing", [](Json &j) { j.erase("repetition"); }},
      {"superset_passes is missing", [](Json &j) { j.erase("superset_passes"); }},
      {"repetition: anchors is missing", [](Json &j) { j["repetition"].erase("anchors"); }},
      {"repetition.anchors is 0", [](Json &j) { j["repetition"]["anchors"] = 0; }},
      {"problem is missing", [](Json &j) { j.erase("problem"); }},
      {"steps has 1 entries, wanted ",
       [](Json &j) { j["steps"] = {{{"timestep", 1}, {"sigma", 1}, {"module", "t"}}}; }},
      {"steps: entry 0: sigma is missing",
       [](Json &j) { j["steps"] = {{{"timestep", 1}, {"module", "t"}}}; }},
      {"steps[2]: module is empty or has a zero byte",
       [](Json &j) {
         const Json good = {{"timestep", 1}, {"sigma", 1}, {"module", "t"}};
         j["steps"] = {good, good, good};
         j["steps"][2]["module"] = std::string("t\0", 2);
       }},
      {"wanted an object", [](Json &j) { j = Json::array(); }},
  };
  for (const Case &test : cases) {
    forge(path, forged, "", {}, test.change);
    std::string message = readAll(forged);
    INFO(message);
    CHECK_MESSAGE(message.find(test.wanted) != std::string::npos, test.wanted);
    CHECK(message.find(forged + ": ") == 0);
  }
  for (const char *version : {"2.0", "2.7", "3.9"}) {
    forge(path, forged, "", {}, [&](Json &j) { j["version"] = version; });
    CHECK(readAll(forged).empty());
  }
}

TEST_CASE("files that are no packages are refused as such") {
  ScratchFolder folder;
  Result<PackageReader> missing = PackageReader::open(folder.file("none"));
  REQUIRE_FALSE(missing);
  CHECK(missing.message().find("none: cannot open: No such file") != std::string::npos);
  CHECK_FALSE(PackageReader::open(folder.path()));
  writeBytes(folder.file("x"), container("{}", {}));
  Result<PackageReader> other = PackageReader::open(folder.file("x"));
  REQUIRE_FALSE(other);
  CHECK(other.message().find("is no package") != std::string::npos);
}

// Importing plain bitmaps.
#include "calib_profiles/BitmapImport.h"
#include "test/calib/RandomInputs.h"
#include "test/calib/RawFile.h"

#include <functional>

using namespace calibatt;
using namespace calibatt::test;

namespace {

/// Two layers, two heads, three steps of 9 blocks (two bytes a row).
RawFile bitmaps(std::vector<BlockMask> &masks, std::mt19937_64 &random) {
  RawFile raw{"calibatt",
              {{"format", "calibatt.bitmaps"},
               {"version", "1.0"},
               {"model", "m"},
               {"grid", {2, 25, 23}},
               {"layers", 2},
               {"heads", 2},
               {"head_dim", 64},
               {"steps",
                {{{"timestep", 900}, {"sigma", 0.9}},
                 {{"timestep", 500}, {"sigma", 0.5}},
                 {{"timestep", 100}, {"sigma", 0.1}, {"module", "low"}}}}},
              {}};
  for (int layer = 0; layer < 2; ++layer)
    for (int step = 0; step < 3; ++step) {
      std::vector<uint8_t> bytes;
      for (int head = 0; head < 2; ++head) {
        masks.push_back(randomMask(9, 0.3, random)); // [layer][step][head]
        bytes.insert(bytes.end(), masks.back().bytes().begin(), masks.back().bytes().end());
      }
      raw.tensors["mask/" + std::to_string(layer) + "/" + std::to_string(step)] = {
          DType::U8, {2, 9, 2}, bytes};
    }
  return raw;
}

} // namespace

TEST_CASE("plain bitmaps become the masks of a profile") {
  const uint64_t seed = freshSeed();
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  ScratchFolder folder;
  std::vector<BlockMask> masks;
  RawFile raw = bitmaps(masks, random);
  std::vector<float> rowMax(12);
  for (float &x : rowMax)
    x = float(random() % 30);
  raw.tensors["row_max"] = rawTensor(DType::F32, {2, 2, 3}, rowMax);
  raw.save(folder.file("masks"));

  Result<BitmapReader> reader = BitmapReader::open(folder.file("masks"));
  REQUIRE(reader);
  CHECK(reader->header().scale == doctest::Approx(0.125));
  CHECK(reader->header().steps[2].module == "low");
  Result<ProfileWriter> writer = ProfileWriter::create(folder.file("p"), reader->header());
  REQUIRE(writer);
  for (uint32_t i = 0; i < 4; ++i) {
    Result<HeadProfile> head = reader->head(i / 2, i % 2);
    REQUIRE(head);
    REQUIRE(writer->append(*head));
  }
  REQUIRE(writer->finish());
  Result<ProfileReader> profile = ProfileReader::open(folder.file("p"));
  REQUIRE(profile);
  for (uint32_t layer = 0; layer < 2; ++layer)
    for (uint32_t head = 0; head < 2; ++head) {
      Result<HeadProfile> got = profile->head(layer, head);
      REQUIRE(got);
      for (uint32_t step = 0; step < 3; ++step) {
        CHECK(got->masks[got->stepMask[step]] == masks[(layer * 3 + step) * 2 + head]);
        CHECK(got->stats[step].rowMax == rowMax[(layer * 2 + head) * 3 + step]);
        CHECK(got->stats[step].keptMass == 1);
      }
    }
}

TEST_CASE("bitmaps with missing, extra or impossible masks are refused by name") {
  std::mt19937_64 random(freshSeed());
  ScratchFolder folder;
  const std::string path = folder.file("masks");
  std::vector<BlockMask> masks;
  const RawFile good = bitmaps(masks, random);
  auto error = [&](const std::function<void(RawFile &)> &change) -> std::string {
    RawFile raw = good;
    change(raw);
    raw.save(path);
    Result<BitmapReader> reader = BitmapReader::open(path);
    if (!reader)
      return reader.message();
    for (uint32_t i = 0; i < 4; ++i)
      if (Result<HeadProfile> head = reader->head(i / 2, i % 2); !head)
        return head.message();
    return "no error";
  };
  CHECK(error([](RawFile &) {}) == "no error");
  const std::string missing = error([](RawFile &r) { r.tensors.erase("mask/1/2"); });
  CHECK(missing.starts_with(path + ": "));
  CHECK(missing.find("mask/1/2") != std::string::npos);
  const std::string wanted = "\": wanted mask/<layer>/<step> with layer 0 to 1 and step 0 to 2, "
                             "kept_mass, repetition or row_max";
  for (const char *extra : {"mask/2/0", "mask/00/1", "mask/0/3", "other"})
    CHECK(error([&](RawFile &r) { r.tensors[extra] = r.tensors["mask/0/0"]; }) ==
          path + ": tensor \"" + extra + wanted);
  CHECK(error([](RawFile &r) { r.tensors["mask/0/0"].shape = {2, 2, 9}; }).find("mask/0/0") !=
        std::string::npos);
  CHECK(error([](RawFile &r) {
          r.tensors["mask/1/0"].bytes[18 + 6] = 0; // head 1, row 3
          r.tensors["mask/1/0"].bytes[18 + 7] = 0;
        }) == path + ": mask/1/0: layer 1, head 1, step 0: row 3 keeps no key block, wanted at "
                     "least one");
  CHECK(error([](RawFile &r) { r.tensors["mask/0/1"].bytes[1] |= 2; }) ==
        path + ": mask/0/1: layer 0, head 0, step 1: row 0 has bits beyond the grid's 9 key "
               "blocks");
  CHECK(error([](RawFile &r) { r.document.erase("layers"); }).find("layers") != std::string::npos);
  CHECK(error([](RawFile &r) { r.document["format"] = "calibatt.profile"; }) ==
        path + ": format: got \"calibatt.profile\", wanted \"calibatt.bitmaps\"");
}

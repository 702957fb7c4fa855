// The profile format: what is written is read, and every lie is refused by name.
#include "calib_profiles/Profile.h"
#include "runtime/format/Hash.h"
#include "runtime/format/Zstd.h"
#include "test/calib/RandomInputs.h"
#include "test/calib/RawFile.h"

#include <functional>

using namespace calibatt;
using namespace calibatt::test;

namespace {

/// 420 tokens, 4 blocks; two layers of three heads and four steps.
ProfileHeader smallHeader() {
  ProfileHeader h;
  h.model = "test \"model\" \u00e9";
  h.grid = {3, 7, 20};
  h.layers = 2;
  h.heads = 3;
  h.headDim = 64;
  h.steps = {{999.5, 0.99, "high"}, {750, 0.75, "high"}, {500, 0.5, "low"}, {1, 0.1, "low"}};
  h.scale = 0.125;
  h.criterion = {0.763, 0.863, 5.64, 0.5, 0.87, 5};
  h.prompts = 3;
  h.promptsHash = "ab12";
  h.seed = ~uint64_t(0);
  h.tool = "a test";
  return h;
}

/// Random masks, some of them repeated, one step repetitive.
HeadProfile randomHead(const ProfileHeader &h, std::mt19937_64 &random) {
  HeadProfile head;
  for (uint32_t step = 0; step < h.stepCount(); ++step) {
    const bool repetitive = random() % 5 == 0;
    if (step > 0 && !repetitive && random() % 3 == 0)
      head.masks.push_back(head.masks[random() % head.masks.size()]);
    else
      head.masks.push_back(repetitive ? BlockMask::dense(h.blocks(), h.blocks())
                                      : randomMask(h.blocks(), 0.4, random));
    head.stepMask.push_back(step);
    head.stats.push_back({0.5f + float(random() % 100) / 200, float(head.masks.back().density()),
                          repetitive ? 0.9f : 0.1f, float(random() % 50)});
  }
  return head;
}

std::vector<HeadProfile> writeRandom(const std::string &path, const ProfileHeader &h,
                                     std::mt19937_64 &random) {
  std::vector<HeadProfile> heads;
  Result<ProfileWriter> writer = ProfileWriter::create(path, h);
  REQUIRE(writer);
  for (uint32_t i = 0; i < h.layers * h.heads; ++i) {
    heads.push_back(randomHead(h, random));
    REQUIRE(writer->append(heads.back()));
  }
  REQUIRE(writer->finish());
  return heads;
}

/// As far as its index can be followed.
void renewFrameHashes(RawFile &raw) {
  for (const char *name : {"pool", "pool_hash", "pool_index"})
    if (!raw.tensors.contains(name))
      return;
  const std::vector<uint8_t> pool = raw.tensors["pool"].bytes;
  std::vector<uint8_t> &hashes = raw.tensors["pool_hash"].bytes;
  for (size_t entry = 0; entry < hashes.size() / sizeof(Xxh128Digest); ++entry) {
    if (raw.tensors["pool_index"].bytes.size() < (entry + 1) * 24)
      return;
    const uint64_t begin = raw.get<uint64_t>("pool_index", entry * 3),
                   bytes = raw.get<uint64_t>("pool_index", entry * 3 + 1);
    if (begin > pool.size() || bytes > pool.size() - begin)
      return;
    const uint64_t end = std::min<uint64_t>(pool.size(), (begin + bytes + 63) / 64 * 64);
    const Xxh128Digest hash = xxh128(std::span(pool).subspan(begin, end - begin));
    std::copy(hash.begin(), hash.end(), hashes.begin() + long(entry * hash.size()));
  }
}

/// The error of opening `path` and decoding every head.
std::string readError(const std::string &path) {
  Result<ProfileReader> reader = ProfileReader::open(path);
  if (!reader)
    return reader.message();
  for (uint32_t layer = 0; layer < reader->header().layers; ++layer)
    for (uint32_t head = 0; head < reader->header().heads; ++head)
      if (Result<HeadProfile> decoded = reader->head(layer, head); !decoded)
        return decoded.message();
  return "no error";
}

} // namespace

TEST_CASE("a profile of random masks is read as it was written") {
  const uint64_t seed = freshSeed();
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  ScratchFolder folder;
  for (Grid grid : {Grid{3, 7, 20}, Grid{4, 10, 14}, Grid{1, 1, 131}, Grid{21, 30, 52}}) {
    ProfileHeader h = smallHeader();
    h.grid = grid;
    h.maxText = grid.frames == 4 ? 100 : 0;
    const std::string path = folder.file("p.calib.safetensors");
    const std::vector<HeadProfile> heads = writeRandom(path, h, random);
    Result<ProfileReader> reader = ProfileReader::open(path);
    REQUIRE(reader);
    const ProfileHeader &got = reader->header();
    CHECK(got.model == h.model);
    CHECK(got.grid == h.grid);
    CHECK(got.maxText == h.maxText);
    CHECK(got.seed == h.seed);
    CHECK(got.tool == h.tool);
    CHECK(got.promptsHash == h.promptsHash);
    CHECK(got.criterion.k == h.criterion.k);
    CHECK(got.criterion.gamma == h.criterion.gamma);
    REQUIRE(got.stepCount() == 4);
    CHECK(got.steps[0].timestep == 999.5);
    CHECK(got.steps[3].module == "low");
    for (uint32_t i = 0; i < heads.size(); ++i) {
      Result<HeadProfile> head = reader->head(i / 3, i % 3);
      REQUIRE(head);
      for (uint32_t a = 0; a < head->masks.size(); ++a)
        for (uint32_t b = 0; b < a; ++b)
          CHECK_FALSE(head->masks[a] == head->masks[b]);
      for (uint32_t step = 0; step < 4; ++step) {
        CHECK(head->masks[head->stepMask[step]] == heads[i].masks[heads[i].stepMask[step]]);
        const SiteStats want = heads[i].stats[step], stats = reader->stats(i / 3, i % 3, step);
        CHECK(stats.keptMass == want.keptMass);
        CHECK(stats.density == want.density);
        CHECK(stats.repetition == want.repetition);
        CHECK(stats.rowMax == want.rowMax);
        CHECK(reader->isRepetitive(i / 3, i % 3, step) == (want.repetition > 0.5f));
      }
    }
    CHECK_FALSE(reader->head(2, 0));
    CHECK(reader->digest()->size() == 64);
  }
  CHECK(folder.files() == 1);
}

TEST_CASE("a profile that was not finished leaves nothing behind") {
  ScratchFolder folder;
  std::mt19937_64 random(freshSeed());
  const ProfileHeader h = smallHeader();
  {
    Result<ProfileWriter> writer = ProfileWriter::create(folder.file("p"), h);
    REQUIRE(writer);
    REQUIRE(writer->append(randomHead(h, random)));
    CHECK(writer->finish().message() ==
          folder.file("p") + ": got 1 head, wanted 2 layers x 3 heads");
  }
  CHECK(folder.files() == 0);
  CHECK_FALSE(ProfileWriter::create(folder.file("missing/p"), h));
}

TEST_CASE("what the writer is given is checked before it is written") {
  ScratchFolder folder;
  std::mt19937_64 random(freshSeed());
  const ProfileHeader h = smallHeader();
  const std::string path = folder.file("p");
  auto appendError = [&](const std::function<void(HeadProfile &)> &change) {
    HeadProfile head = randomHead(h, random);
    for (SiteStats &stats : head.stats)
      stats.repetition = 0;
    change(head);
    Result<ProfileWriter> writer = ProfileWriter::create(path, h);
    REQUIRE(writer);
    REQUIRE(writer->append(randomHead(h, random)));
    return writer->append(head).message();
  };
  CHECK(appendError([](HeadProfile &head) {
          head.masks[2] = BlockMask::dense(4, 4);
          for (uint32_t c = 0; c < 4; ++c)
            head.masks[2].set(1, c, false);
        }) == path + ": layer 0, head 1, step 2: row 1 keeps no key block, wanted at least one");
  CHECK(appendError([](HeadProfile &head) { head.masks[3] = BlockMask::dense(5, 5); }) ==
        path + ": layer 0, head 1, step 3: got a mask of 5x5 blocks, wanted 4x4");
  CHECK(appendError([](HeadProfile &head) { head.stepMask.pop_back(); }) ==
        path + ": layer 0, head 1: got 3 masks and 4 statistics, wanted 4 of each");
  CHECK(appendError([](HeadProfile &head) { head.stepMask[1] = 4; }) ==
        path + ": layer 0, head 1, step 1: got mask 4, wanted less than 4");
  CHECK(appendError([](HeadProfile &head) {
          head.masks[0].set(0, 0, false);
          head.masks[0].set(0, 1);
          head.stats[0].repetition = 0.95f;
        }) == path + ": layer 0, head 1, step 0: repetition 0.95 is at least gamma 0.87, but the "
                     "mask is not dense");
  CHECK(appendError([](HeadProfile &head) {
          head.stats[3].keptMass = NAN;
        }).starts_with(path + ": kept_mass: layer 0, head 1, step 3: out of range"));
}

TEST_CASE("a profile that lies is refused with file, field, got and wanted") {
  const uint64_t seed = freshSeed();
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  ScratchFolder folder;
  const std::string path = folder.file("p.calib.safetensors");
  ProfileHeader h = smallHeader();
  writeRandom(path, h, random);
  const RawFile good = RawFile::load(path, "calibatt");
  auto error = [&](const std::function<void(RawFile &)> &change) {
    RawFile raw = good;
    change(raw);
    renewFrameHashes(raw);
    raw.save(path, /*sealed=*/true);
    std::string message = readError(path);
    CHECK(message.starts_with(path + ": "));
    return message.substr(std::min(message.size(), path.size() + 2));
  };
  // A file whose heads all have one given frame of one mask.
  auto withMask = [&](RawFile &raw, const std::vector<uint8_t> &mask, uint64_t count = 1) {
    std::vector<uint8_t> frame = zstdCompress(mask).take();
    const uint64_t padded = (frame.size() + 63) / 64 * 64;
    std::vector<uint8_t> pool;
    for (uint64_t head = 0; head < 6; ++head) {
      pool.insert(pool.end(), frame.begin(), frame.end());
      pool.resize((head + 1) * padded);
      raw.set<uint64_t>("pool_index", head * 3, head * padded);
      raw.set<uint64_t>("pool_index", head * 3 + 1, frame.size());
      raw.set<uint64_t>("pool_index", head * 3 + 2, count);
    }
    raw.tensors["pool"] = {DType::U8, {pool.size()}, pool};
    std::fill(raw.tensors["map"].bytes.begin(), raw.tensors["map"].bytes.end(), uint8_t(0));
    for (uint64_t site = 0; site < 24; ++site)
      raw.set<float>("repetition", site, 0);
  };

  SUBCASE("the document") {
    CHECK(error([](RawFile &r) { r.document["version"] = "3.0"; }) ==
          "version: got \"3.0\", wanted \"2.x\"");
    CHECK(error([](RawFile &r) { r.document["version"] = "1.0"; }) ==
          "version: got \"1.0\", wanted \"2.x\" (1.x had no digest; select or synthesise the "
          "profile again)");
    CHECK(error([](RawFile &r) { r.document["format"] = "calibatt.package"; }) ==
          "format: got \"calibatt.package\", wanted \"calibatt.profile\"");
    CHECK(error([](RawFile &r) { r.document["format"] = "calibatt.bitmaps"; }) ==
          "format: got \"calibatt.bitmaps\", wanted \"calibatt.profile\" (convert it with "
          "`calibatt profile import`)");
    CHECK(error([](RawFile &r) { r.document["head_dim"] = 96; }) ==
          "head_dim: got 96, wanted 64 or 128");
    CHECK(error([](RawFile &r) { r.document["block_size"] = 64; }) ==
          "block_size: got 64, wanted 128");
    CHECK(error([](RawFile &r) { r.document["layers"] = 0; }) == "layers: got 0, wanted 1 to 1024");
    CHECK(error([](RawFile &r) { r.document["heads"] = 257; }) ==
          "heads: got 257, wanted 1 to 256");
    CHECK(error([](RawFile &r) { r.document["steps"] = nlohmann::json::array(); }) ==
          "steps: got 0, wanted 1 to 1024");
    CHECK(error([](RawFile &r) { r.document["grid"] = {3, 7}; }) ==
          "grid: got [3,7], wanted three sizes, each 1 to 524288");
    CHECK(error([](RawFile &r) { r.document["grid"] = {1000, 1000, 1000}; }) ==
          "grid: 1000x1000x1000 and max_text 0 exceed 524288 tokens");
    CHECK(error([](RawFile &r) { r.document["scale"] = 0; }) ==
          "scale: got 0, wanted a number above 0");
    CHECK(error([](RawFile &r) { r.document["token_order"] = "column"; }) ==
          "token_order: got \"column\", wanted \"frame,row,column\"");
    CHECK(error([](RawFile &r) { r.document["criterion"]["rho"] = 0; }) ==
          "criterion: rho = 0, wanted above 0, at most 1");
    CHECK(error([](RawFile &r) {
            r.document["criterion"]["kind"] = "topk";
          }).find("kind: got \"topk\", wanted \"energy\"") != std::string::npos);
    for (const char *key : {"model", "grid", "layers", "steps", "scale", "criterion", "seed"}) {
      CAPTURE(key);
      CHECK(error([&](RawFile &r) { r.document.erase(key); }).find(key) != std::string::npos);
    }
    CHECK(error([](RawFile &r) { r.document["steps"][1] = 7; }).find("entry 1") !=
          std::string::npos);
    CHECK(error([](RawFile &r) { r.document = nlohmann::json::array({1}); }) != "");
  }
  SUBCASE("the tensors") {
    for (const char *name : {"pool", "pool_index", "pool_hash", "map", "kept_mass", "density",
                             "repetition", "row_max"}) {
      CAPTURE(name);
      CHECK(error([&](RawFile &r) { r.tensors.erase(name); }).find(name) != std::string::npos);
      CHECK(error([&](RawFile &r) {
              r.tensors[name].dtype = DType::I8;
              r.tensors[name].shape = {r.tensors[name].bytes.size()};
            }).find(name) != std::string::npos);
    }
    // Sites that are missing: the shapes are those of another model.
    CHECK(error([](RawFile &r) { r.document["heads"] = 2; }).find("pool_index") !=
          std::string::npos);
    CHECK(error([](RawFile &r) { r.document["steps"].erase(3); }).find("map") != std::string::npos);
    CHECK(error([](RawFile &r) { r.set<float>("kept_mass", 13, 1.5f); }) ==
          "kept_mass: layer 1, head 0, step 1: got 1.5, wanted 0 to 1");
    CHECK(error([](RawFile &r) { r.set<float>("repetition", 23, NAN); }) ==
          "repetition: layer 1, head 2, step 3: got nan, wanted -1 to 1");
    CHECK(error([](RawFile &r) {
            r.set<float>("row_max", 0, INFINITY);
          }).starts_with("row_max: layer 0, head 0, step 0: got inf"));
    CHECK(error([](RawFile &r) {
            r.set<uint32_t>("map", 5, 9);
          }).starts_with("map: layer 0, head 1, step 1: got mask 9, wanted less than "));
  }
  SUBCASE("the pool's index") {
    const uint64_t poolBytes = good.tensors.at("pool").bytes.size();
    CHECK(error([](RawFile &r) {
            r.set<uint64_t>("pool_index", 3, 1);
          }).starts_with("pool_index: entry 1 starts at byte 1, wanted "));
    CHECK(error([](RawFile &r) { r.set<uint64_t>("pool_index", 16, ~uint64_t(0) - 5); }) ==
          "pool_index: entry 5 has 18446744073709551610 bytes at byte " +
              std::to_string(good.get<uint64_t>("pool_index", 15)) + ", but the pool has " +
              std::to_string(poolBytes) + " bytes");
    CHECK(error([](RawFile &r) { r.set<uint64_t>("pool_index", 5, 0); }) ==
          "pool_index: entry 1 has 0 masks, wanted 1 to 4");
    CHECK(error([](RawFile &r) { r.set<uint64_t>("pool_index", 5, 1000); }) ==
          "pool_index: entry 1 has 1000 masks, wanted 1 to 4");
  }
  SUBCASE("the masks") {
    CHECK(error([&](RawFile &r) { withMask(r, {15, 15, 0, 15}); }) ==
          "pool: layer 0, head 0, step 0: row 2 keeps no key block, wanted at least one");
    CHECK(error([&](RawFile &r) { withMask(r, {15, 31, 15, 15}); }) ==
          "pool: layer 0, head 0, step 0: row 1 has bits beyond the grid's 4 key blocks");
    CHECK(error([&](RawFile &r) {
            withMask(r, {15, 15, 15, 15, 15, 15, 15, 7}, 2);
            r.set<float>("density", 0, 0.5f);
          }) == "density: layer 0, head 0, step 0: got 0.5, but the mask has 1");
    CHECK(error([&](RawFile &r) {
            withMask(r, {15, 15, 15, 15, 15, 15, 15, 7}, 2);
            for (uint64_t site = 0; site < 24; ++site)
              r.set<float>("density", site, 1);
          }) == "map: layer 0, head 0: no step has mask 1 of 2");
    CHECK(error([&](RawFile &r) {
            withMask(r, {15, 15, 15, 7});
            for (uint64_t site = 0; site < 24; ++site)
              r.set<float>("density", site, 15.0f / 16);
            r.set<float>("repetition", 0, 0.9f);
          }) == "repetition: layer 0, head 0, step 0: got 0.9, at least gamma 0.87, but the mask "
                "is not dense");
    CHECK(
        error([&](RawFile &r) { withMask(r, {15, 15, 15}); }).starts_with("pool: layer 0, head 0"));
    CHECK(error([&](RawFile &r) {
            withMask(r, std::vector<uint8_t>(4000, 15));
          }).starts_with("pool: layer 0, head 0"));
    CHECK(error([](RawFile &r) {
            r.tensors["pool"].bytes[0] ^= 0xff;
          }).starts_with("pool: layer 0, head 0: not a zstd frame"));
  }
}

TEST_CASE("a profile that is truncated while it is open is an error that names it") {
  const uint64_t seed = freshSeed();
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  ScratchFolder folder;
  const std::string path = folder.file("p");
  writeRandom(path, smallHeader(), random);
  Result<ProfileReader> reader = ProfileReader::open(path);
  REQUIRE(reader);
  const SiteStats before = reader->stats(1, 2, 3);
  std::filesystem::resize_file(path, 100);
  for (const std::string &message :
       {reader->head(0, 0).message(), reader->digest().message(), reader->layerDigest(1).message()})
    CHECK_MESSAGE(message.starts_with(path + ": ends at byte 100, but had "), message);
  CHECK(reader->stats(1, 2, 3).keptMass == before.keptMass);
}

TEST_CASE("a profile cut short anywhere, or with any bit flipped, is refused") {
  const uint64_t seed = freshSeed();
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  ScratchFolder folder;
  const std::string path = folder.file("p.calib.safetensors");
  writeRandom(path, smallHeader(), random);
  const std::string bytes = fileBytes(path);
  for (size_t size = 0; size < bytes.size(); size += 1 + random() % 40) {
    std::ofstream(path, std::ios::binary).write(bytes.data(), std::streamsize(size));
    CHECK(readError(path) != "no error");
  }
  for (size_t at = 0; at < bytes.size(); ++at) {
    std::string flipped = bytes;
    flipped[at] ^= char(1 << random() % 8);
    std::ofstream(path, std::ios::binary).write(flipped.data(), std::streamsize(flipped.size()));
    CAPTURE(at);
    CHECK(readError(path).starts_with(path + ": "));
  }
  CHECK(readError(folder.file("none")).starts_with(folder.file("none") + ": "));
}

TEST_CASE("a table of a profile with a flipped bit is refused by its name") {
  const uint64_t seed = freshSeed();
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  ScratchFolder folder;
  const std::string path = folder.file("p.calib.safetensors");
  writeRandom(path, smallHeader(), random);
  const std::string bytes = fileBytes(path);
  auto flippedAt = [&](uint64_t at) {
    std::string flipped = bytes;
    flipped[at] ^= char(1 << random() % 8);
    std::ofstream(path, std::ios::binary).write(flipped.data(), std::streamsize(flipped.size()));
    return readError(path);
  };
  std::map<std::string, std::pair<uint64_t, uint64_t>> places;
  {
    Result<SafetensorsReader> file = SafetensorsReader::open(path);
    REQUIRE(file);
    for (const TensorEntry &tensor : file->tensors())
      places[tensor.name] = {tensor.offset, tensor.bytes};
  }
  for (const char *name :
       {"pool_index", "pool_hash", "map", "kept_mass", "density", "repetition", "row_max"}) {
    const auto [begin, size] = places.at(name);
    CHECK(flippedAt(begin + random() % size)
              .starts_with(path + ": tensor \"" + name + "\" is damaged: the SHA-256 of "));
  }
  const auto [begin, size] = places.at("pool");
  CHECK(flippedAt(begin + size - 1).starts_with(path + ": pool: layer 1, head 2: is damaged: "));
  // Without a digest it is no profile of this version.
  std::ofstream(path, std::ios::binary).write(bytes.data(), std::streamsize(bytes.size()));
  RawFile::load(path, "calibatt").save(path);
  CHECK(readError(path) == path + ": __metadata__ has no \"calibatt_digest\"");
}

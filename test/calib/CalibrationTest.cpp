// From dumps to a profile: the whole method against the definitions, and bad dumps.
#include "calib_profiles/Calibration.h"
#include "calib_profiles/HeadStream.h"
#include "calib_profiles/Repetition.h"
#include "test/calib/RandomInputs.h"
#include "test/calib/RawFile.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <stdexcept>

using namespace calibatt;
using namespace calibatt::test;

namespace {

constexpr uint32_t kLayers = 2, kHeads = 2, kSteps = 3, kDim = 64;
const Grid kGrid{3, 7, 13}; // 273 tokens, 3 blocks, tail 17

RawFile dump(const std::string &prompt, uint64_t seed, DType dtype = DType::BF16) {
  RawFile raw{"calibatt_dump",
              {{"version", 1},
               {"model", "m"},
               {"grid", {kGrid.frames, kGrid.height, kGrid.width}},
               {"head_dim", kDim},
               {"layers", kLayers},
               {"heads", kHeads},
               {"steps", nlohmann::json::array()},
               {"prompt_id", prompt},
               {"scale", 0.125}},
              {}};
  for (uint32_t step = 0; step < kSteps; ++step)
    raw.document["steps"].push_back(
        {{"timestep", 900 - step}, {"sigma", 0.9}, {"module", "transformer"}});
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0, 2.5);
  const uint64_t values = kHeads * kGrid.tokens() * kDim;
  for (uint32_t layer = 0; layer < kLayers; ++layer)
    for (uint32_t step = 0; step < kSteps; ++step)
      for (const char *which : {"q.", "k."}) {
        std::vector<float> floats(values);
        std::vector<uint16_t> halves(values);
        for (uint64_t i = 0; i < values; ++i) {
          uint32_t bits = std::bit_cast<uint32_t>(normal(random)) & 0xffff0000;
          floats[i] = std::bit_cast<float>(bits);
          halves[i] = uint16_t(bits >> 16);
        }
        const std::vector<uint64_t> shape = {kHeads, kGrid.tokens(), kDim};
        raw.tensors[which + std::to_string(layer) + "." + std::to_string(step)] =
            dtype == DType::BF16 ? rawTensor(dtype, shape, halves)
                                 : rawTensor(dtype, shape, floats);
      }
  return raw;
}

RandomHead headOf(const RawFile &raw, uint32_t layer, uint32_t head, uint32_t step) {
  RandomHead result(kGrid.tokens(), kDim, 0);
  const std::string site = std::to_string(layer) + "." + std::to_string(step);
  for (auto [name, values] : {std::pair{"q." + site, &result.q}, {"k." + site, &result.k}})
    for (size_t i = 0; i < values->size(); ++i)
      (*values)[i] =
          std::bit_cast<float>(uint32_t(raw.get<uint16_t>(name, head * values->size() + i)) << 16);
  return result;
}

std::string calibrateTo(const std::string &path, const std::vector<std::string> &dumps,
                        unsigned jobs) {
  Result<Calibration> calibration = Calibration::open(dumps, {});
  if (!calibration)
    return calibration.message();
  Result<ProfileWriter> writer = ProfileWriter::create(path, calibration->header());
  REQUIRE(writer);
  Status status = streamHeads(
      kLayers * kHeads, jobs,
      [&](uint64_t i) { return calibration->head(uint32_t(i / kHeads), uint32_t(i % kHeads)); },
      [&](uint64_t, const HeadProfile &head) { return writer->append(head); });
  if (!status)
    return status.message();
  REQUIRE(writer->finish());
  return "";
}

} // namespace

TEST_CASE("calibration keeps what cover and vote over the full attention matrices keep") {
  const uint64_t seed = freshSeed();
  CAPTURE(seed);
  ScratchFolder folder;
  std::vector<RawFile> raws;
  std::vector<std::string> paths;
  for (uint32_t p = 0; p < 3; ++p) {
    raws.push_back(dump("prompt " + std::to_string(p), seed + p));
    paths.push_back(folder.file("dump" + std::to_string(p)));
    raws[p].save(paths[p]);
  }
  Result<Calibration> calibration = Calibration::open(paths, {});
  REQUIRE(calibration);
  CHECK(calibration->header().prompts == 3);
  CHECK(calibration->header().dtype == "bf16");
  CHECK(calibration->header().criterion.a == 0.763);

  const uint32_t blocks = 3;
  for (uint32_t layer = 0; layer < kLayers; ++layer) {
    Result<HeadProfile> got = calibration->head(layer, 1);
    REQUIRE(got);
    for (uint32_t step = 0; step < kSteps; ++step) {
      const double epsilon = 0.763 + 0.1 * std::exp(-5.64 * step / kSteps);
      std::vector<int> counts(blocks * blocks);
      std::vector<double> sums(blocks * blocks);
      double rowMax = -1e300, repetition = 0;
      for (const RawFile &raw : raws) {
        const RandomHead head = headOf(raw, layer, 1, step);
        const auto p = head.attention();
        const KeyBlocks keys(head.input());
        const BlockEnergies checked = blockEnergies(head.input(), keys);
        repetition += repetitionScore(head.input(), keys, checked.lse, kGrid, 5) / 3;
        rowMax = std::max<double>(rowMax,
                                  *std::max_element(checked.rowMax.begin(), checked.rowMax.end()));
        for (uint32_t r = 0; r < blocks; ++r) {
          std::vector<double> row(blocks);
          const uint32_t first = r * 128, last = std::min<uint32_t>(first + 128, 273);
          for (uint32_t i = first; i < last; ++i)
            for (uint32_t j = 0; j < 273; ++j)
              row[j / 128] += p[i][j] / (last - first);
          std::vector<uint32_t> order(blocks);
          std::iota(order.begin(), order.end(), 0u);
          std::sort(order.begin(), order.end(), [&](auto a, auto b) { return row[a] > row[b]; });
          double prefix = 0;
          std::vector<bool> kept(blocks);
          for (uint32_t c : order) {
            if (prefix >= epsilon)
              break;
            kept[c] = true;
            prefix += row[c];
          }
          for (uint32_t c = 0; c < blocks; ++c) {
            counts[r * blocks + c] += kept[c];
            sums[r * blocks + c] += row[c];
          }
        }
      }
      const BlockMask &mask = got->masks[got->stepMask[step]];
      double mass = 0;
      for (uint32_t r = 0; r < blocks; ++r) {
        const double *row = sums.data() + r * blocks;
        const uint32_t best = uint32_t(std::max_element(row, row + blocks) - row);
        for (uint32_t c = 0; c < blocks; ++c) {
          CHECK(mask.get(r, c) == (counts[r * blocks + c] >= 2 || c == r || c == best));
          mass += mask.get(r, c) ? row[c] / 3 * std::min(128u, 273 - r * 128) / 273 : 0;
        }
      }
      const SiteStats &stats = got->stats[step];
      CHECK(stats.keptMass == doctest::Approx(mass).epsilon(1e-5));
      CHECK(stats.density == float(mask.density()));
      CHECK(stats.repetition == doctest::Approx(repetition).epsilon(1e-6));
      CHECK(stats.rowMax == doctest::Approx(rowMax));
    }
  }
}

TEST_CASE("the profile has the same bytes for any number of threads and any order of dumps") {
  const uint64_t seed = freshSeed();
  CAPTURE(seed);
  ScratchFolder folder;
  std::vector<std::string> paths;
  for (const char *prompt : {"b", "a", "c"}) {
    paths.push_back(folder.file(prompt));
    dump(prompt, seed + prompt[0]).save(paths.back());
  }
  CHECK(calibrateTo(folder.file("one"), paths, 1) == "");
  CHECK(calibrateTo(folder.file("many"), paths, 7) == "");
  std::reverse(paths.begin(), paths.end());
  CHECK(calibrateTo(folder.file("reversed"), paths, 2) == "");
  CHECK(fileBytes(folder.file("one")) == fileBytes(folder.file("many")));
  CHECK(fileBytes(folder.file("one")) == fileBytes(folder.file("reversed")));
}

TEST_CASE("a head whose rows attend alike is repetitive and has a dense mask") {
  ScratchFolder folder;
  RawFile raw = dump("p", freshSeed(), DType::F32);
  const uint64_t rowValues = kGrid.width * kDim;
  for (uint32_t y = 1; y < kGrid.frames * kGrid.height; ++y) // head 0: every row as row 0
    std::copy_n(raw.tensors["q.0.0"].bytes.begin(), rowValues * 4,
                raw.tensors["q.0.0"].bytes.begin() + y * rowValues * 4);
  raw.save(folder.file("d"));
  Result<Calibration> calibration = Calibration::open({folder.file("d")}, {});
  REQUIRE(calibration);
  CHECK(calibration->header().dtype == "f32");
  Result<HeadProfile> head = calibration->head(0, 0);
  REQUIRE(head);
  CHECK(head->stats[0].repetition == doctest::Approx(1));
  CHECK(head->masks[head->stepMask[0]] == BlockMask::dense(3, 3));
  CHECK(head->stats[1].repetition < 0.87);
}

TEST_CASE("dumps that cannot be used are refused by file, field, got and wanted") {
  const uint64_t seed = freshSeed();
  ScratchFolder folder;
  const std::string a = folder.file("a"), b = folder.file("b"), out = folder.file("out");
  const RawFile good = dump("p1", seed);
  dump("p0", seed + 1).save(a);
  auto error = [&](const std::function<void(RawFile &)> &change) {
    RawFile raw = good;
    change(raw);
    raw.save(b);
    return calibrateTo(out, {b, a}, 2);
  };
  // Inputs that are not finite: q.1.2 of head 1, token 5, channel 3.
  const size_t at = (kGrid.tokens() + 5) * kDim + 3;
  CHECK(error([&](RawFile &r) { r.set<uint16_t>("q.1.2", at, 0x7fc0); }) ==
        b + ": q.1.2: NaN at head 1, token 5, channel 3; prompt \"p1\" cannot be used");
  CHECK(error([&](RawFile &r) { r.set<uint16_t>("k.0.1", at, 0xff80); }) ==
        b + ": k.0.1: infinity at head 1, token 5, channel 3; prompt \"p1\" cannot be used");
  CHECK_FALSE(std::filesystem::exists(out));

  auto differs = [&](const char *field, const char *got, const char *has) {
    return b + ": " + field + ": got " + got + ", but " + a + " has " + has;
  };
  CHECK(error([](RawFile &r) { r.document["model"] = "n"; }) == differs("model", "n", "m"));
  CHECK(error([](RawFile &r) { r.document["scale"] = 0.25; }) == differs("scale", "0.25", "0.125"));
  CHECK(error([](RawFile &r) { r.document["grid"] = {7, 3, 13}; }) ==
        differs("grid", "7x3x13", "3x7x13"));
  CHECK(error([](RawFile &r) { r.document["steps"][1]["sigma"] = 0.5; }) ==
        differs("sigma of step 1", "0.5", "0.9"));
  CHECK(error([](RawFile &r) {
          r.document["prompt_id"] = "p0";
        }).ends_with(": prompt_id: got \"p0\", but " + b + " has the same"));
  CHECK(error([&](RawFile &r) { r = dump("p1", seed, DType::F32); }) ==
        differs("dtype", "f32", "bf16"));

  CHECK(error([](RawFile &r) { r.document["version"] = 2; }) ==
        b + ": calibatt_dump: version: got 2, wanted 1");
  CHECK(error([](RawFile &r) { r.document["head_dim"] = 80; }) ==
        b + ": calibatt_dump: head_dim: got 80, wanted 64 or 128");
  CHECK(error([](RawFile &r) { r.document.erase("prompt_id"); }).find("prompt_id") !=
        std::string::npos);
  CHECK(error([](RawFile &r) { r.tensors.erase("k.1.0"); }).find("k.1.0") != std::string::npos);
  CHECK(error([](RawFile &r) { r.tensors["q.0.0"].shape = {2, 64, 273}; }).find("q.0.0") !=
        std::string::npos);
  CHECK(error([](RawFile &r) { r.tensors["q.2.0"] = r.tensors["q.0.0"]; }) ==
        b + ": got 13 tensors named q.* or k.*, wanted 12 (2 layers x 3 steps x 2)");
  CHECK(error([](RawFile &r) { r.key = "other"; }) ==
        b + ": __metadata__ has no \"calibatt_dump\", so this is not a dump of Q and K");
  CHECK(calibrateTo(out, {}, 1) == "no dump given, wanted 1 to 255");
  CHECK(calibrateTo(out, std::vector<std::string>(256, a), 1) ==
        "got 256 dumps, wanted at most 255: counts are 8 bits");
  CHECK_FALSE(Calibration::open({a}, {.rho = 0}));
  CHECK_FALSE(Calibration::open({a}, {.rho = 0.5, .anchors = 0}));
  CHECK(folder.files() == 2); // a and b: no output, no temporary
}

TEST_CASE("a dump that is truncated while it is open is an error that names it") {
  const uint64_t seed = freshSeed();
  CAPTURE(seed);
  ScratchFolder folder;
  const std::string path = folder.file("dump");
  for (DType dtype : {DType::BF16, DType::F32}) {
    RawFile raw = dump("a prompt", seed);
    if (dtype == DType::F32)
      for (auto &[name, tensor] : raw.tensors) {
        tensor.dtype = dtype;
        tensor.bytes.assign(tensor.bytes.size() * 2, 0);
      }
    raw.save(path);
    Result<DumpReader> reader = DumpReader::open(path);
    REQUIRE(reader);
    std::vector<float> q, k;
    REQUIRE(reader->read(0, 0, 0, q, k));
    std::filesystem::resize_file(path, std::filesystem::file_size(path) / 3);
    size_t failed = 0;
    for (uint32_t layer = 0; layer < kLayers; ++layer)
      for (uint32_t head = 0; head < kHeads; ++head)
        for (uint32_t step = 0; step < kSteps; ++step)
          if (Status s = reader->read(layer, head, step, q, k); !s) {
            CHECK(s.message().starts_with(path + ": ends at byte "));
            CHECK(s.message().ends_with("somebody truncated it"));
            ++failed;
          }
    CHECK(failed > 0);
  }
}

TEST_CASE("heads made in parallel arrive in order, and the first error wins") {
  for (unsigned jobs : {1u, 2u, 5u}) {
    uint64_t next = 0;
    auto head = [](uint64_t i) -> Result<HeadProfile> {
      HeadProfile head;
      head.stepMask = {uint32_t(i)};
      return head;
    };
    CHECK(streamHeads(100, jobs, head, [&](uint64_t i, const HeadProfile &h) -> Status {
      CHECK(i == next++);
      CHECK(h.stepMask[0] == i);
      return {};
    }));
    CHECK(next == 100);
    auto failing = [&](uint64_t i) -> Result<HeadProfile> {
      if (i == 30)
        throw std::runtime_error("thirty");
      if (i > 30)
        return Error{"later"};
      return head(i);
    };
    auto accept = [](uint64_t, const HeadProfile &) { return Status(); };
    CHECK(streamHeads(100, jobs, failing, accept).message() == "making a head failed: thirty");
    CHECK(streamHeads(100, jobs, head, [](uint64_t i, const HeadProfile &) -> Status {
            return i == 3 ? Status(Error{"full"}) : Status();
          }).message() == "full");
  }
}

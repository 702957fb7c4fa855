// Counts files: what a kill at any moment leaves, locks, damage, and the codes of energies.
#include "calib_profiles/CountsMerge.h"
#include "calib_profiles/EnergyUnits.h"
#include "calib_profiles/PromptFold.h"
#include "calib_profiles/PromptRecord.h"
#include "test/calib/CountsSamples.h"
#include "test/calib/RandomInputs.h"
#include "test/calib/RawFile.h"

#include <fmt/format.h>

#include <chrono>
#include <csignal>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

using namespace calibatt;
using namespace calibatt::test;

namespace {

Status mergeQuietly(const std::vector<std::string> &inputs, const std::string &output,
                    CountsKind kind = CountsKind::Sums) {
  return mergeCounts(inputs, output, kind, 2, [](uint64_t, uint64_t) {});
}

/// The digest that its document, state and prompts have, as a forger would write it.
void seal(RawFile &raw) {
  const Sha256Digest digest = countsDigest(raw.document.dump(), raw.tensors.at("state").bytes,
                                           raw.tensors.at("prompt_ids").bytes);
  raw.tensors.at("digest").bytes.assign(digest.begin(), digest.end());
}

void copyFile(const std::string &from, const std::string &to) {
  std::filesystem::copy_file(from, to, std::filesystem::copy_options::overwrite_existing);
}

} // namespace

TEST_CASE("energies in units are near, pack without loss, and a mean's code is within its bound") {
  const uint64_t seed = freshSeed();
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  std::uniform_real_distribution<double> exponent(-34, 0);
  CHECK(energyUnits(1) == kEnergyOne);
  CHECK(energyUnits(0) == 0);
  CHECK(packUnits(kEnergyOne) == kMaxPackedUnits);
  for (int i = 0; i < 100000; ++i) {
    const float energy = float(std::exp2(exponent(random)));
    const uint32_t units = energyUnits(energy);
    const double error = std::abs(units / double(kEnergyOne) - energy);
    REQUIRE(error <= energy * std::exp2(-12) + std::exp2(-25));
    REQUIRE(unpackUnits(packUnits(units)) == units);
    REQUIRE(packUnits(units) <= kMaxPackedUnits);

    const uint32_t prompts = 1 + uint32_t(random() % 255);
    const uint32_t sum = uint32_t(std::exp2(exponent(random)) * prompts * kEnergyOne) + 1;
    const double mean = sum / (double(prompts) * kEnergyOne);
    const uint8_t code = energyCode(sum, prompts);
    REQUIRE(code == std::clamp(std::lround(-8 * std::log2(mean)), 0l, 254l));
    if (mean >= std::exp2(-31.75))
      REQUIRE(std::abs(std::log2(energyOfCode(code) / mean)) <= 1.0 / 16 + 1e-12);
  }
  CHECK(energyCode(0, 7) == kNoEnergy);
  CHECK(energyOfCode(kNoEnergy) == 0);
  for (uint32_t units = 0; units <= 4096 * 4; ++units) {
    if (units >= 4096 && units % 2) // more than 12 bits
      continue;
    if (units < 8192)
      REQUIRE(unpackUnits(packUnits(units)) == units);
  }
}

TEST_CASE("a fold that is killed at any moment goes on to the counts of one that is not") {
  const uint64_t seed = freshSeed();
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  // Where syncing takes no time, most of it is spent between one write and the next.
  if (std::filesystem::exists("/dev/shm"))
    setenv("TMPDIR", "/dev/shm", 1);
  ScratchFolder folder;
  unsetenv("TMPDIR");
  const ProfileHeader header = sampleCountsHeader(0);
  const std::string whole = folder.file("whole"), killed = folder.file("killed");
  // The same second prompt waits beside two copies of the counts of a first one.
  REQUIRE(writeSampleRecord(whole, header, "second", random));
  std::filesystem::rename(recordPath(whole), folder.file("record"));
  REQUIRE(writeSampleCounts(whole, header, {"first"}, random));
  copyFile(whole, folder.file("before"));
  copyFile(folder.file("record"), recordPath(whole));
  Result<bool> folded = foldWaitingPrompt(whole);
  REQUIRE(folded);
  REQUIRE(*folded);

  uint32_t kills = 0, interrupted = 0;
  for (int round = 0; round < 6 || (interrupted == 0 && round < 500); ++round) {
    copyFile(folder.file("before"), killed);
    copyFile(folder.file("record"), recordPath(killed));
    for (int attempt = 0;; ++attempt) {
      REQUIRE(attempt < 10000);
      const pid_t child = fork();
      REQUIRE(child >= 0);
      if (child == 0) // a site a piece, so that there is much to interrupt; another size later
        _exit(foldWaitingPrompt(killed, 1 + uint64_t(attempt % 3) * 200) ? 0 : 1);
      // Longer and longer, so that a slow machine comes to an end too.
      const uint64_t most = uint64_t(500) << std::min(attempt / 6, 12);
      std::this_thread::sleep_for(std::chrono::microseconds(random() % most));
      ::kill(child, SIGKILL);
      int status = 0;
      REQUIRE(waitpid(child, &status, 0) == child);
      if (WIFEXITED(status)) {
        REQUIRE(WEXITSTATUS(status) == 0);
        break;
      }
      ++kills;
      Result<CountsReader> now = CountsReader::open(killed);
      interrupted += now && now->interrupted();
    }
    REQUIRE(fileBytes(killed) == fileBytes(whole));
    REQUIRE_FALSE(hasWaitingPrompt(killed));
  }
  MESSAGE(kills, " kills, ", interrupted, " of them between the first and the last piece");
  CHECK(interrupted > 0);
  CHECK(folder.files() == 4); // whole, killed, before, record: no logs are left
}

TEST_CASE("a half folded prompt without its record, and records of other counts, are refused") {
  std::mt19937_64 random(freshSeed());
  ScratchFolder folder;
  const std::string path = folder.file("c");
  REQUIRE(writeSampleRecord(path, sampleCountsHeader(0), "p", random));
  RawFile raw = RawFile::load(path, kCountsKey);
  raw.set<uint64_t>("state", 1, 1); // as after the first write of a fold
  seal(raw);
  raw.save(path);
  // With its record, but without the log that says how far the fold got.
  Result<bool> unlogged = foldWaitingPrompt(path);
  REQUIRE_FALSE(unlogged);
  CHECK(unlogged.message() ==
        path + ": prompt 1 is half folded in, and its redo log is missing or damaged");
  std::filesystem::rename(recordPath(path), folder.file("record"));
  Result<LockedCounts> half = LockedCounts::open(path);
  REQUIRE_FALSE(half);
  CHECK(half.message() == path + ": prompt 1 is half folded in, and its record is missing");

  ProfileHeader other = sampleCountsHeader(0);
  other.model = std::string("another");
  std::filesystem::remove(path);
  REQUIRE(CountsAccumulator::createFile(path, other));
  std::filesystem::rename(folder.file("record"), recordPath(path));
  Result<bool> folded = foldWaitingPrompt(path);
  REQUIRE_FALSE(folded);
  CHECK(folded.message() == recordPath(path) + ": is of other counts than " + path);
  // And one that is damaged is not folded in.
  std::filesystem::remove(path);
  REQUIRE(CountsAccumulator::createFile(path, sampleCountsHeader(0)));
  RawFile record = RawFile::load(recordPath(path), "calibatt_prompt");
  record.set<uint16_t>("blocks", 16 * 5 + 3, 77);
  record.save(recordPath(path));
  folded = foldWaitingPrompt(path);
  REQUIRE_FALSE(folded);
  CHECK(folded.message() == recordPath(path) +
                                ": prompt \"p\", layer 0, head 1, step 2: is damaged: its hash is "
                                "another");
}

TEST_CASE("one writer at a time: the second is told the first one's pid") {
  ScratchFolder folder;
  std::mt19937_64 random(freshSeed());
  const std::string path = folder.file("c");
  REQUIRE(writeSampleCounts(path, sampleCountsHeader(0), {"a"}, random));
  {
    Result<CountsLock> first = CountsLock::forWriting(path);
    REQUIRE(first);
    Result<CountsLock> second = CountsLock::forWriting(path), reader = CountsLock::forReading(path);
    REQUIRE_FALSE(second);
    CHECK(second.message().starts_with(path + ": is in use by process " + std::to_string(getpid()) +
                                       " on "));
    REQUIRE_FALSE(reader);
    CHECK(reader.message() == second.message());
  }
  {
    Result<LockedCounts> one = LockedCounts::open(path), two = LockedCounts::open(path);
    REQUIRE(one);
    REQUIRE(two);
    Result<CountsLock> writer = CountsLock::forWriting(path);
    REQUIRE_FALSE(writer);
    CHECK(writer.message() == path + ": is in use by a program that reads it");
  }
  CHECK(CountsLock::forWriting(path));
  CHECK(folder.files() == 1); // no lock file is left
}

TEST_CASE("damage in counts is found: each field wrong in turn") {
  const uint64_t seed = freshSeed();
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  ScratchFolder folder;
  const std::string good = folder.file("good"), means = folder.file("means"),
                    bad = folder.file("c");
  REQUIRE(writeSampleCounts(good, sampleCountsHeader(0), {"a", "b"}, random));
  REQUIRE(mergeQuietly({good}, means, CountsKind::Means));
  auto error = [&](const std::string &from, const std::function<void(RawFile &)> &change) {
    RawFile raw = RawFile::load(from, kCountsKey);
    change(raw);
    if (raw.tensors.contains("digest"))
      seal(raw);
    raw.save(bad);
    Result<CountsReader> counts = CountsReader::open(bad);
    if (!counts)
      return counts.message();
    for (uint64_t site = 0; site < counts->layout().sites; ++site)
      if (Result<SiteCounts> read = counts->site(site); !read)
        return read.message();
    return std::string();
  };
  CHECK(error(good, [](RawFile &) {}) == "");
  CHECK(error(means, [](RawFile &) {}) == "");
  const std::string damaged = ": layer 0, head 1, step 2: is damaged: its hash is another";
  for (const char *name : {"site_hash", "repetition", "kept", "row_max", "energy_sum", "count"})
    CHECK(error(good, [&](RawFile &r) {
            RawTensor &t = r.tensors.at(name);
            t.bytes[5 * t.bytes.size() / 12] ^= 1; // site 5 of 12
          }) == bad + damaged);
  for (const char *name : {"best", "energy"})
    CHECK(error(means, [&](RawFile &r) {
            RawTensor &t = r.tensors.at(name);
            t.bytes[5 * t.bytes.size() / 12] ^= 1;
          }) == bad + damaged);
  CHECK(error(good, [](RawFile &r) { r.set<uint64_t>("state", 0, 256); }) ==
        bad + ": state: 256 prompts, wanted at most 255");
  CHECK(error(good, [](RawFile &r) { r.set<uint64_t>("state", 1, 7); }) ==
        bad + ": state: prompt 7 is being folded in after 2");
  CHECK(error(good, [](RawFile &r) { r.set<uint64_t>("state", 0, 1); }) ==
        bad + ": prompt_ids: entry 1: is used, but the state says 1 prompt");
  CHECK(error(good, [](RawFile &r) { r.set<uint8_t>("prompt_ids", 1024, 'a'); }) ==
        bad + ": prompt_ids: entry 1: is not after the one before it");
  CHECK(error(good, [](RawFile &r) { r.tensors.erase("kept"); }) ==
        bad + ": tensor \"kept\" is missing");
  CHECK(error(good, [](RawFile &r) { r.document["heads"] = 1; }).find("site_hash") !=
        std::string::npos);
  CHECK(error(good, [](RawFile &r) { r.document["version"] = "3.0"; }) ==
        bad + ": version: got \"3.0\", wanted \"1.x or 2.x\"");
  CHECK(error(good, [](RawFile &r) { r.document["version"] = "1.0"; }) ==
        bad + ": version 1.x with a digest, wanted none before 2.0");
  CHECK(error(good, [](RawFile &r) { r.tensors.erase("digest"); }) ==
        bad + ": version 2.x without a digest, wanted one");
  CHECK(error(good, [](RawFile &r) { r.key = "other"; }) ==
        bad + ": __metadata__ has no \"calibatt_counts\", so these are no counts");
  // Cut off at any place it is refused.
  const std::string bytes = fileBytes(good);
  for (int i = 0; i < 50; ++i) {
    std::ofstream(bad, std::ios::binary).write(bytes.data(), long(random() % bytes.size()));
    CHECK_FALSE(CountsReader::open(bad));
  }
}

TEST_CASE("any flipped bit of counts or of a waiting record is refused") {
  const uint64_t seed = freshSeed();
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  ScratchFolder folder;
  const std::string path = folder.file("c"), part = folder.file("part");
  // Two prompts and the record of a third, "p".
  REQUIRE(writeSampleCounts(path, sampleCountsHeader(0), {"a", "o"}, random));
  {
    REQUIRE(writeSampleRecord(part, sampleCountsHeader(0), "p", random));
    std::filesystem::rename(recordPath(part), recordPath(path));
  }
  auto readError = [&] {
    Result<CountsReader> counts = CountsReader::open(path);
    if (!counts)
      return counts.message();
    for (uint64_t site = 0; site < counts->layout().sites; ++site)
      if (Status s = counts->checkHash(site); !s)
        return s.message();
    Result<PromptReader> record = PromptReader::open(recordPath(path), *counts);
    if (!record)
      return record.message();
    std::vector<uint16_t> blocks;
    for (uint64_t site = 0; site < counts->layout().sites; ++site)
      if (Status s = record->blocks(site, blocks); !s)
        return s.message();
    return std::string();
  };
  REQUIRE(readError() == "");
  for (const std::string &file : {path, recordPath(path)}) {
    const std::string bytes = fileBytes(file);
    std::vector<size_t> places;
    for (int i = 0; i < 1500; ++i)
      places.push_back(random() % bytes.size());
    for (size_t at = 0; at < 2500; ++at) // header and state
      places.push_back(at % bytes.size());
    for (size_t at : {bytes.find(std::string("a\0", 2)), bytes.find("\"p\\\"")})
      if (at != std::string::npos)
        places.push_back(at);
    for (size_t at : places) {
      std::string flipped = bytes;
      flipped[at] ^= char(1 << random() % 8);
      std::ofstream(file, std::ios::binary).write(flipped.data(), std::streamsize(flipped.size()));
      CAPTURE(at);
      CHECK(readError().starts_with(file + ": "));
    }
    std::ofstream(file, std::ios::binary).write(bytes.data(), std::streamsize(bytes.size()));
  }
  // The id of a prompt, one bit off, would let it be counted a second time.
  RawFile raw = RawFile::load(path, kCountsKey);
  raw.set<uint8_t>("prompt_ids", kPromptIdBytes, 'n');
  raw.save(path);
  CHECK(readError().starts_with(path + ": document, state or prompt_ids is damaged: "));
}

TEST_CASE("counts of version 1 are read and merged, and no prompt is added to them") {
  std::mt19937_64 random(freshSeed());
  ScratchFolder folder;
  const std::string path = folder.file("c"), old = folder.file("old"), again = folder.file("n");
  REQUIRE(writeSampleCounts(path, sampleCountsHeader(0), {"a", "b"}, random));
  RawFile raw = RawFile::load(path, kCountsKey);
  raw.document["version"] = "1.0";
  raw.tensors.erase("digest");
  raw.save(old);
  Result<CountsReader> counts = CountsReader::open(old);
  REQUIRE(counts);
  CHECK_FALSE(counts->hasDigest());
  CHECK(counts->prompts() == std::vector<std::string>{"a", "b"});
  Result<CountsAccumulator> added = openCounts(old, sampleCountsHeader(0), false);
  REQUIRE_FALSE(added);
  CHECK(added.message() == old + ": has version 1.x, to which no prompt can be added: `calibatt "
                                 "profile merge` makes counts of this version of it");
  REQUIRE(mergeQuietly({old}, again));
  REQUIRE(mergeQuietly({path}, folder.file("m")));
  CHECK(fileBytes(again) == fileBytes(folder.file("m")));
}

TEST_CASE("counts that are truncated while they are open are an error that names them") {
  std::mt19937_64 random(freshSeed());
  ScratchFolder folder;
  const std::string path = folder.file("counts");
  REQUIRE(writeSampleCounts(path, sampleCountsHeader(0), {"a", "b"}, random));
  Result<CountsReader> counts = CountsReader::open(path);
  REQUIRE(counts);
  REQUIRE(counts->site(0));
  const uint64_t left = counts->layout().at(CountsTensor::Count, 1) + 3;
  std::filesystem::resize_file(path, left);
  CHECK(counts->site(0));
  for (uint64_t site = 1; site < counts->layout().sites; ++site)
    CHECK(counts->site(site).message().starts_with(
        fmt::format("{}: ends at byte {}, but had ", path, left)));
}

TEST_CASE("prompts that cannot be counted are refused by name") {
  std::mt19937_64 random(freshSeed());
  ScratchFolder folder;
  const std::string path = folder.file("c");
  Result<CountsAccumulator> counts = openCounts(path, sampleCountsHeader(0), true);
  REQUIRE(counts);
  for (const std::string &id :
       {std::string(), std::string(1024, 'x'), std::string("a\nb"), std::string("\xff")})
    CHECK_FALSE(counts->checkNewPrompt(id));
  REQUIRE(counts->begin(std::string(255, 'x')));
  std::vector<float> energies = randomEnergies(4, random);
  auto error = [&](auto change) {
    std::vector<float> changed = energies;
    SiteMeasurement measured;
    change(changed, measured);
    measured.energies = changed;
    return counts->check(7, measured).message();
  };
  const std::string where = "layer 1, head 0, step 1: ";
  const std::string what = "; prompt \"" + std::string(255, 'x') + "\" cannot be counted";
  CHECK(error([](auto &e, auto &) { e[6] = NAN; }) ==
        where + "the energy of row 1, block 2 is NaN" + what);
  CHECK(error([](auto &e, auto &) { e[15] = INFINITY; }) ==
        where + "the energy of row 3, block 3 is infinite" + what);
  CHECK(error([](auto &e, auto &) { e[0] = -1e-9f; }) ==
        where + "the energy of row 0, block 0 is -1e-09" + what);
  CHECK(error([](auto &e, auto &) { std::fill(e.begin() + 8, e.begin() + 12, 0.125f); }) ==
        where + "the energies of row 2 sum to 0.5, wanted 1" + what);
  CHECK(error([](auto &, auto &m) { m.repetition = NAN; }) ==
        where + "repetition is NaN, wanted -1 to 1" + what);
  CHECK(error([](auto &, auto &m) { m.rowMax = -INFINITY; }) ==
        where + "the row maximum is infinite" + what);
  const std::vector<uint8_t> nothing(4);
  CHECK(error([&](auto &, auto &m) {
          m.cover = nothing;
        }).starts_with(where + "the cover of row 0 has 0 of its energy, wanted 0.77"));
  CHECK(counts->commit().message() == path + ": prompt \"" + std::string(255, 'x') +
                                          "\": 0 of 12 sites were added; layer 0, head 0, step 0 "
                                          "is missing");
}

TEST_CASE("merging is associative and commutative, byte for byte") {
  const uint64_t seed = freshSeed();
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  ScratchFolder folder;
  auto file = [&](const char *name) { return folder.file(name); };
  for (const uint32_t maxText : {0, 100}) {
    const ProfileHeader header = sampleCountsHeader(maxText);
    REQUIRE(writeSampleCounts(file("a"), header, {"z", "b"}, random));
    REQUIRE(writeSampleCounts(file("b"), header, {"a"}, random));
    REQUIRE(writeSampleCounts(file("c"), header, {"y", "c", "d"}, random));
    REQUIRE(writeSampleCounts(file("none"), header, {}, random));
    REQUIRE(mergeQuietly({file("a"), file("b"), file("c")}, file("abc")));
    REQUIRE(mergeQuietly({file("c"), file("a"), file("none"), file("b")}, file("cab")));
    REQUIRE(mergeQuietly({file("b"), file("c")}, file("bc")));
    REQUIRE(mergeQuietly({file("bc"), file("a")}, file("bc+a")));
    REQUIRE(mergeQuietly({file("a"), file("c")}, file("ac")));
    REQUIRE(mergeQuietly({file("b"), file("ac")}, file("b+ac")));
    for (const char *other : {"cab", "bc+a", "b+ac"})
      CHECK(fileBytes(file("abc")) == fileBytes(file(other)));
    REQUIRE(mergeQuietly({file("abc")}, file("final")));
    CHECK(fileBytes(file("abc")) == fileBytes(file("final")));
    REQUIRE(mergeQuietly({file("a"), file("b"), file("c")}, file("means"), CountsKind::Means));
    REQUIRE(mergeQuietly({file("b+ac")}, file("means2"), CountsKind::Means));
    CHECK(fileBytes(file("means")) == fileBytes(file("means2")));
  }
}

TEST_CASE("counts that do not belong together are not merged") {
  std::mt19937_64 random(freshSeed());
  ScratchFolder folder;
  const std::string a = folder.file("a"), b = folder.file("b"), out = folder.file("out");
  const ProfileHeader header = sampleCountsHeader(0);
  REQUIRE(writeSampleCounts(a, header, {"p", "q"}, random));
  auto differs = [&](const std::function<void(ProfileHeader &)> &change) {
    ProfileHeader other = header;
    change(other);
    REQUIRE(writeSampleCounts(b, other, {"r"}, random));
    const std::string message = mergeQuietly({a, b}, out).message();
    const std::string start = b + ": ", end = ", but " + a + " has ";
    REQUIRE(message.starts_with(start));
    REQUIRE(message.find(end) != std::string::npos);
    return message.substr(start.size(), message.find(end) - start.size());
  };
  CHECK(differs([](auto &h) { h.model = std::string("n"); }) == "model: got n");
  CHECK(differs([](auto &h) { h.grid = {3, 20, 7}; }) == "grid: got 3x20x7");
  CHECK(differs([](auto &h) { h.maxText = 9; }) == "max_text: got 9");
  CHECK(differs([](auto &h) { h.steps.pop_back(); }) == "steps: got 2");
  CHECK(differs([](auto &h) { h.steps[1].sigma = 0.25; }) == "sigma of step 1: got 0.25");
  CHECK(differs([](auto &h) { h.steps[0].module = std::string("m"); }) ==
        "module of step 0: got m");
  CHECK(differs([](auto &h) { h.criterion.a = 0.5; }) == "criterion: a: got 0.5");
  CHECK(differs([](auto &h) { h.criterion.anchors = 3; }) == "criterion: anchors: got 3");
  CHECK(differs([](auto &h) { h.dtype = std::string("f32"); }) == "dtype: got f32");

  REQUIRE(writeSampleCounts(b, header, {"r", "q"}, random));
  CHECK(mergeQuietly({a, b}, out).message() == b + ": prompt \"q\" is in " + a + " too");
  CHECK(mergeQuietly({a, b}, a).message() == a + ": is an input; the result needs another name");
  REQUIRE(mergeQuietly({b}, out, CountsKind::Means));
  CHECK(mergeQuietly({a, out}, folder.file("more")).message() ==
        out + ": has mean energies only, which cannot be added: merge the counts it was made from");
  Result<CountsAccumulator> more = openCounts(out, header, false);
  REQUIRE_FALSE(more);
  CHECK(more.message() == out + ": has mean energies only, to which no prompt can be added");
}

TEST_CASE("255 prompts are counted, and a 256th is refused") {
  std::mt19937_64 random(freshSeed());
  ScratchFolder folder;
  ProfileHeader header = sampleCountsHeader(0);
  header.layers = header.heads = 1;
  header.steps.resize(1);
  const std::string a = folder.file("a"), b = folder.file("b"), out = folder.file("out");
  std::vector<std::string> ids;
  for (int i = 0; i < 128; ++i)
    ids.push_back("prompt " + std::to_string(i));
  REQUIRE(writeSampleCounts(a, header, ids, random));
  for (std::string &id : ids)
    id = "another " + id;
  REQUIRE(writeSampleCounts(b, header, ids, random));
  CHECK(mergeQuietly({a, b}, out).message() ==
        "the counts have 256 prompts together, wanted at most 255: counts are 8 bits");
  ids.pop_back();
  REQUIRE(writeSampleCounts(b, header, ids, random));
  REQUIRE(mergeQuietly({a, b}, out));
  Result<CountsAccumulator> full = openCounts(out, header, false);
  REQUIRE(full);
  CHECK(full->counts().prompts().size() == 255);
  CHECK(full->checkNewPrompt("one more").message() ==
        out + ": prompt \"one more\" would be number 256, and counts are 8 bits");
  // All energy in one block of all prompts is the most a sum can hold.
  Result<SiteCounts> site = full->counts().site(0);
  REQUIRE(site);
  for (uint32_t r = 0; r < site->blocks; ++r)
    CHECK(site->counts[r * site->blocks + r] == 255);
}

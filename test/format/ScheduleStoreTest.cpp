// Schedules as packages store them: bitmaps, differences, launch orders by rule.
#include "runtime/format/ScheduleCodec.h"
#include "runtime/format/ScheduleDecoder.h"
#include "runtime/format/ScheduleEncoder.h"
#include "runtime/format/ScheduleImage.h"
#include "runtime/format/TileOrder.h"
#include "runtime/format/Zstd.h"
#include "test/format/Samples.h"

#include <algorithm>
#include <cstring>
#include <doctest/doctest.h>
#include <numeric>

using namespace calibatt;
using namespace calibatt::test;

namespace {

ScheduleHeader headerOf(const std::vector<uint8_t> &image) {
  ScheduleHeader header;
  std::memcpy(&header, image.data(), sizeof(header));
  return header;
}

/// The same masks with a share of the blocks off the diagonal flipped, and the diagonal.
ScheduleMasks changed(Random &random, ScheduleMasks masks, double share) {
  for (uint32_t head = 0; head < masks.heads; ++head)
    for (uint32_t q = 0; q < masks.blocks(); ++q) {
      for (uint32_t block = 0; block < masks.blocks(); ++block)
        if (random.real(0, 1) < share)
          masks.row(head, q)[block / 64] ^= uint64_t(1) << block % 64;
      masks.row(head, q)[q / 64] |= uint64_t(1) << q % 64;
    }
  return masks;
}

std::string codecError(std::span<const uint8_t> stored, const ScheduleMasks *reference) {
  Result<DecodedSchedule> decoded =
      decodeSchedule(stored, reference ? *reference : ScheduleMasks(), "stored");
  return decoded ? std::string() : decoded.message();
}

bool contains(const std::string &text, const char *part) {
  return text.find(part) != std::string::npos;
}

} // namespace

TEST_CASE("bitmaps give the image that lists give, and come back from it") {
  Random random;
  INFO("seed ", random.seed);
  for (int i = 0; i < 40; ++i) {
    Schedule schedule =
        randomSchedule(random, uint32_t(random.integer(1, 20000)), uint32_t(random.integer(1, 4)),
                       random.integer(0, 3) ? random.real(0, 1) : 1);
    for (Form form : {Form::Runs, Form::Table}) {
      const std::vector<uint8_t> image = buildScheduleImage(masksOf(schedule), form);
      Result<Schedule> lists = decodeScheduleImage(image, "image");
      REQUIRE_MESSAGE(lists, lists.message());
      CHECK(*lists == canonicalSchedule(schedule));
      Result<ScheduleMasks> masks = masksOfImage(image, "image");
      REQUIRE_MESSAGE(masks, masks.message());
      CHECK(*masks == masksOf(schedule));
    }
  }
}

TEST_CASE("a damaged image gives no bitmaps, and the error that its lists give") {
  Random random;
  INFO("seed ", random.seed);
  Schedule schedule = withAnchors(randomSchedule(random, 420, 2, 0.4), {7, 20, 5});
  for (Form form : {Form::Runs, Form::Table}) {
    const std::vector<uint8_t> image = buildScheduleImage(schedule, form);
    for (size_t byte = 0; byte < image.size(); ++byte) {
      std::vector<uint8_t> damaged = image;
      damaged[byte] ^= uint8_t(1u << random.integer(0, 7));
      Result<Schedule> lists = decodeScheduleImage(damaged, "image");
      Result<ScheduleMasks> masks = masksOfImage(damaged, "image");
      INFO("byte ", byte);
      REQUIRE(bool(lists) == bool(masks));
      if (!lists)
        CHECK(masks.message() == lists.message());
      else
        CHECK(buildScheduleImage(*masks, form) == damaged);
    }
  }
}

TEST_CASE("a stored schedule comes back, whole and as a difference") {
  Random random;
  INFO("seed ", random.seed);
  for (int i = 0; i < 30; ++i) {
    Schedule schedule = randomSchedule(random, uint32_t(random.integer(1, 20000)),
                                       uint32_t(random.integer(1, 12)), random.real(0, 1));
    ScheduleMasks before = masksOf(schedule), after = changed(random, before, 0.01);
    const ScheduleHeader header = headerOf(buildScheduleImage(after, Form::Table));
    for (const ScheduleMasks *reference :
         std::initializer_list<const ScheduleMasks *>{nullptr, &before}) {
      bool used = false;
      const std::vector<uint8_t> stored = encodeSchedule(header, after, reference, used);
      CHECK((reference || !used));
      Result<DecodedSchedule> decoded =
          decodeSchedule(stored, used ? *reference : ScheduleMasks(), "stored");
      REQUIRE_MESSAGE(decoded, decoded.message());
      CHECK(decoded->masks == after);
      CHECK(std::memcmp(&decoded->header, &header, sizeof(header)) == 0);
    }
  }
}

TEST_CASE("what is not as it should be in a stored schedule is named") {
  Random random;
  INFO("seed ", random.seed);
  const ScheduleMasks before = masksOf(randomSchedule(random, 9000, 2, 0.5));
  ScheduleMasks after = before;
  after.row(1, 3)[0] ^= uint64_t(1) << 60;
  const ScheduleHeader header = headerOf(buildScheduleImage(after, Form::Table));
  bool used = false;
  const std::vector<uint8_t> whole = encodeSchedule(header, after, nullptr, used);
  const std::vector<uint8_t> difference = encodeSchedule(header, after, &before, used);
  REQUIRE(used);
  auto with = [](std::vector<uint8_t> bytes, size_t at, uint8_t value) {
    bytes[at] = value;
    return bytes;
  };
  constexpr size_t kCoding = sizeof(ScheduleHeader), kBody = kCoding + 2;
  CHECK(contains(codecError(std::span(whole).first(20), nullptr), "fewer than its header"));
  CHECK(contains(codecError(std::span(whole).first(kCoding + 1), nullptr), "ends within"));
  CHECK(contains(codecError(std::span(whole).first(whole.size() - 1), nullptr), "bytes of rows"));
  CHECK(contains(codecError(with(whole, kCoding, 2), nullptr), "coding is 2"));
  CHECK(contains(codecError(difference, nullptr), "of which there is none"));
  const ScheduleMasks other = masksOf(randomSchedule(random, 9000, 3, 0.5));
  CHECK(contains(codecError(difference, &other), "of which there is none"));
  std::vector<uint8_t> longer = difference;
  longer.push_back(255);
  CHECK(contains(codecError(longer, &before), "ends within a distance"));
  longer.insert(longer.end(), 2000, 255);
  longer.push_back(0);
  CHECK(contains(codecError(longer, &before), "differs, but there are"));
  CHECK(contains(codecError(with(whole, offsetof(ScheduleHeader, heads) + 3, 1), nullptr),
                 "heads and 9000 tokens"));
  // 71 blocks: the last byte of a row has one bit to spare.
  CHECK(contains(codecError(with(whole, kBody + 8, whole[kBody + 8] | 0x80), nullptr),
                 "beyond the last"));
  ScheduleMasks empty = after;
  std::ranges::fill(empty.row(0, 5), 0);
  CHECK(contains(codecError(encodeSchedule(header, empty, nullptr, used), nullptr),
                 "row 5 is empty"));
}

TEST_CASE("an encoder stores steps as differences and never refers further than it should") {
  Random random;
  INFO("seed ", random.seed);
  ScheduleEncoder encoder;
  std::vector<std::vector<uint8_t>> images;
  ScheduleMasks masks = masksOf(randomSchedule(random, 9000, 3, 0.3));
  for (int step = 0; step < 40; ++step) {
    masks = changed(random, masks, 0.005);
    images.push_back(buildScheduleImage(masks, step % 2 ? Form::Runs : Form::Table));
    Result<uint32_t> index = encoder.add(masks, images.back());
    REQUIRE_MESSAGE(index, index.message());
    CHECK(*index == step);
    CHECK(encoder.add(masks, images.back()).take() == step);
  }
  const std::vector<StoredSchedule> list = encoder.take();
  REQUIRE(list.size() == images.size());
  size_t whole = 0;
  for (size_t i = 0; i < list.size(); ++i) {
    CHECK(list[i].imageHash == xxh128(images[i]));
    CHECK(list[i].imageBytes == images[i].size());
    whole += list[i].reference == kWholeSchedule;
    if (list[i].reference != kWholeSchedule)
      CHECK(list[i].reference == i - 1);
  }
  CHECK(whole == 5);
}

TEST_CASE("an encoder refuses rows that no image has") {
  Random random;
  ScheduleMasks masks = masksOf(randomSchedule(random, 420, 2, 0.5));
  const std::vector<uint8_t> image = buildScheduleImage(masks, Form::Table);
  masks.row(1, 2)[0] = 0;
  Result<uint32_t> added = ScheduleEncoder().add(masks, image);
  REQUIRE_FALSE(added);
  CHECK(contains(added.message(), "head 1: row 2 is empty"));
}

TEST_CASE("schedules of several layers share images, and a reader makes all of them again") {
  Random random;
  INFO("seed ", random.seed);
  ScratchFolder folder;
  PackageContent content = randomContent(random, 100);
  const Problem &problem = content.manifest.problem;
  PackageWriter writer = fill(content);
  const uint32_t before = writer.dataCount();
  // Two layers of ten steps, equal in the first four.
  std::vector<std::vector<uint8_t>> images;
  std::vector<uint32_t> indices;
  ScheduleMasks start = masksOf(randomSchedule(random, problem.tokens, problem.heads, 0.5));
  std::vector<ScheduleMasks> first;
  for (int layer = 0; layer < 2; ++layer) {
    ScheduleEncoder encoder;
    ScheduleMasks masks = start;
    for (size_t step = 0; step < 10; ++step) {
      masks = layer && step < 4 ? first[step] : changed(random, masks, 0.1);
      if (!layer)
        first.push_back(masks);
      images.push_back(buildScheduleImage(masks, Form::Runs));
      REQUIRE(encoder.add(masks, images.back()));
    }
    // Equal steps of a layer are one.
    std::vector<uint32_t> added = writer.addSchedules(encoder.take());
    std::vector<std::vector<uint8_t>> distinct;
    for (size_t step = 0; step < 10; ++step) {
      const auto &image = images[size_t(layer) * 10 + step];
      auto at = std::find(distinct.begin(), distinct.end(), image);
      indices.push_back(added[size_t(at - distinct.begin())]);
      if (at == distinct.end())
        distinct.push_back(image);
    }
  }
  for (size_t step = 0; step < 4; ++step)
    CHECK(indices[step] == indices[10 + step]);
  CHECK(writer.dataCount() <= before + 16);
  const std::string path = folder.file("m.calibatt");
  REQUIRE(writer.write(path));
  Result<PackageReader> package = PackageReader::open(path);
  REQUIRE_MESSAGE(package, package.message());
  ScheduleDecoder decoder(*package);
  for (size_t i = 0; i < images.size(); ++i) {
    CHECK(package->data(indices[i]).take() == images[i]);
    CHECK(package->dataBytes(indices[i]) == images[i].size());
    Result<std::vector<uint8_t>> again = decoder.image(indices[i]);
    REQUIRE_MESSAGE(again, again.message());
    CHECK(*again == images[i]);
  }
  // In any order.
  for (int i = 0; i < 40; ++i) {
    const size_t which = random.integer(0, images.size() - 1);
    CHECK(decoder.image(indices[which]).take() == images[which]);
  }
}

TEST_CASE("orders by rule are permutations with the longest rows first") {
  Random random;
  INFO("seed ", random.seed);
  for (TileOrder rule : {TileOrder::Heads, TileOrder::Longest})
    for (int i = 0; i < 30; ++i) {
      const uint32_t rows = uint32_t(random.integer(1, 50)), heads = uint32_t(random.integer(1, 9));
      std::vector<uint32_t> visits(size_t(rows) * heads);
      for (uint32_t &v : visits)
        v = uint32_t(random.integer(0, 20));
      const std::vector<uint16_t> order = orderTiles(rule, visits, rows);
      std::vector<uint64_t> total(heads);
      for (size_t row = 0; row < visits.size(); ++row)
        total[row / rows] += visits[row];
      // The definition: a stable sort by what is launched earlier.
      std::vector<uint16_t> wanted(visits.size());
      std::iota(wanted.begin(), wanted.end(), uint16_t(0));
      std::stable_sort(wanted.begin(), wanted.end(), [&](uint16_t a, uint16_t b) {
        const uint32_t ha = a / rows, hb = b / rows;
        if (rule == TileOrder::Longest || (visits[a] == 0) != (visits[b] == 0))
          return std::tuple(visits[a] == 0, ~visits[a]) < std::tuple(visits[b] == 0, ~visits[b]);
        return std::tuple(~total[ha], ha, ~visits[a]) < std::tuple(~total[hb], hb, ~visits[b]);
      });
      CHECK(order == wanted);
    }
}

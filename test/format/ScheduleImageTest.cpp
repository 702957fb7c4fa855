// Data images and emitted schedules: round trips, and a strict decoder.
#include "runtime/format/ScheduleImage.h"
#include "test/format/EmittedText.h"
#include "test/format/Samples.h"

#include <algorithm>
#include <cstring>
#include <doctest/doctest.h>
#include <numeric>

using namespace calibatt;
using namespace calibatt::test;

namespace {

/// The same rows under a shuffled class numbering with unused and doubled classes.
Schedule renumbered(Random &random, const Schedule &schedule) {
  Schedule other = schedule;
  std::vector<uint32_t> permutation(schedule.classes.size());
  std::iota(permutation.begin(), permutation.end(), 0);
  std::shuffle(permutation.begin(), permutation.end(), random.engine);
  for (size_t i = 0; i < permutation.size(); ++i)
    other.classes[permutation[i]] = schedule.classes[i];
  for (uint32_t &rowClass : other.rowClass)
    rowClass = permutation[rowClass];
  other.classes.push_back(other.classes[0]);
  other.classes.push_back({0});
  for (uint32_t &rowClass : other.rowClass)
    if (rowClass == 0 && random.integer(0, 1))
      rowClass = uint32_t(other.classes.size() - 2);
  return other;
}

std::string decodeError(std::span<const uint8_t> image) {
  Result<Schedule> schedule = decodeScheduleImage(image, "image");
  return schedule ? std::string() : schedule.message();
}

void putWord(std::vector<uint8_t> &image, size_t offset, uint32_t value) {
  std::memcpy(image.data() + offset, &value, sizeof(value));
}

uint32_t wordAt(const std::vector<uint8_t> &image, size_t offset) {
  uint32_t value;
  std::memcpy(&value, image.data() + offset, sizeof(value));
  return value;
}

} // namespace

TEST_CASE("a schedule comes back from its data image in both forms") {
  Random random;
  INFO("seed ", random.seed);
  for (int i = 0; i < 40; ++i) {
    uint32_t tokens = uint32_t(random.integer(1, 9000));
    Schedule schedule =
        randomSchedule(random, tokens, uint32_t(random.integer(1, 5)), random.real(0, 1));
    for (Form form : {Form::Runs, Form::Table}) {
      std::vector<uint8_t> image = buildScheduleImage(schedule, form);
      CHECK(image.size() == scheduleImageBytes(schedule, form));
      CHECK(image.size() % 16 == 0);
      Result<Schedule> decoded = decodeScheduleImage(image, "image");
      REQUIRE_MESSAGE(decoded, decoded.message());
      CHECK(*decoded == canonicalSchedule(schedule));
      for (uint32_t row = 0; row < schedule.rowClass.size(); ++row)
        CHECK(decoded->classes[decoded->rowClass[row]] == schedule.classes[schedule.rowClass[row]]);
      CHECK(wordAt(image, offsetof(ScheduleHeader, visits)) == visitsOf(schedule));
      CHECK(buildScheduleImage(renumbered(random, schedule), form) == image);
    }
  }
}

TEST_CASE("rows longer than a run can say are split and come back whole") {
  Random random;
  Schedule schedule = randomSchedule(random, 300000, 1, 1);
  REQUIRE(schedule.keyBlocks > 2 * kMaxRunBlocks);
  std::vector<uint8_t> image = buildScheduleImage(schedule, Form::Runs);
  Result<Schedule> decoded = decodeScheduleImage(image, "image");
  REQUIRE_MESSAGE(decoded, decoded.message());
  CHECK(*decoded == canonicalSchedule(schedule));
}

TEST_CASE("a kept tail block is flagged and first, a length of whole blocks has none") {
  constexpr uint32_t kTwoWithTail = 2 | kRowStartsWithTail;
  auto visitsField = [](const std::vector<uint8_t> &image, size_t offset) {
    return wordAt(image, offset) >> 16;
  };
  Schedule schedule{300, 1, 3, 3, {0, 1, 0}, {{2, 0}, {1, 0}}};
  for (Form form : {Form::Runs, Form::Table}) {
    std::vector<uint8_t> image = buildScheduleImage(schedule, form);
    CHECK(visitsField(image, 64 + 4) == kTwoWithTail);
    CHECK(visitsField(image, 64 + 12) == 2);
    schedule.tokens = 384;
    image = buildScheduleImage(schedule, form);
    CHECK(visitsField(image, 64 + 4) == 2);
    schedule.tokens = 300;
  }
}

TEST_CASE("the decoder names what is wrong in an image") {
  // Rows at 64: class 0 is {2, 0}, class 1 is {1, 0}; words at 96.
  Schedule schedule{300, 1, 3, 3, {0, 1, 0}, {{2, 0}, {1, 0}}};
  struct Case {
    const char *wanted;
    size_t offset;
    uint32_t value;
  };
  const Case runs[] = {
      {"magic", 0, 7},
      {"version is 2, wanted 1", 4, 2},
      {"form is 0", 8, 0},
      {"heads is 0", 12, 0},
      {"heads is 4096", 12, 4096},
      {"query and 3 key blocks", 16, 4},
      {"key blocks", 20, 4},
      {"tokens is 0", 24, 0},
      {"tokens is 4294967295", 24, 0xFFFFFFFF},
      {"rows_offset", 28, 80},
      {"words_offset", 32, 64},
      {"bytes, but", 36, 0x40000000},
      {"visits is 9", 40, 9},
      {"reserved", 60, 1},
      {"row 0: words end at", 64, 0xFFFFFFFF},
      {"row 0: has no key blocks", 68, 2u << 16},
      {"row 0: visits is", 68, 2u << 16 | 2},
      {"row 2: visits is", 84, 3u << 16 | 2},
      {"padding", 88, 1},
      {"not a multiple of 128", 96, packRun(255, 1)},
      {"run 0: is empty", 96, packRun(256, 0)},
      {"ends at block 4", 96, packRun(256, 2)},
      {"run 1: ends at block 3, wanted at most 2", 100, packRun(256, 1)},
      {"run 1: touches", 100, packRun(128, 1)},
  };
  for (const Case &test : runs) {
    std::vector<uint8_t> image = buildScheduleImage(schedule, Form::Runs);
    REQUIRE(decodeError(image).empty());
    putWord(image, test.offset, test.value);
    std::string got = decodeError(image);
    INFO(got);
    CHECK_MESSAGE(got.find(test.wanted) != std::string::npos, test.wanted);
    CHECK(got.rfind("image: ", 0) == 0);
  }
  const Case table[] = {
      {"row 0: bitmap has block 3", 96, 13}, {"row 0: has no key blocks", 96, 0},
      {"row 0: visits is", 96, 7},           {"bitmap has 2 words", 68, 2u << 16 | 2},
      {"row 1: visits is", 72, 0},           {"row 2: visits is", 80, 1},
  };
  for (const Case &test : table) {
    std::vector<uint8_t> image = buildScheduleImage(schedule, Form::Table);
    REQUIRE(decodeError(image).empty());
    putWord(image, test.offset, test.value);
    std::string got = decodeError(image);
    INFO(got);
    CHECK_MESSAGE(got.find(test.wanted) != std::string::npos, test.wanted);
  }
}

TEST_CASE("an image cut short anywhere or with any flipped bit is refused or another schedule") {
  Random random;
  INFO("seed ", random.seed);
  for (Form form : {Form::Runs, Form::Table}) {
    Schedule schedule = randomSchedule(random, 420, 2, 0.5);
    std::vector<uint8_t> image = buildScheduleImage(schedule, form);
    for (size_t size = 0; size < image.size(); ++size)
      CHECK_FALSE(decodeError(std::span(image).first(size)).empty());
    for (size_t bit = 0; bit < 8 * image.size(); ++bit) {
      std::vector<uint8_t> damaged = image;
      damaged[bit / 8] ^= uint8_t(1u << (bit % 8));
      Result<Schedule> decoded = decodeScheduleImage(damaged, "image");
      // What is accepted is a schedule with exactly these bytes, so never the old one.
      if (decoded) {
        CHECK(buildScheduleImage(*decoded, form) == damaged);
        CHECK_FALSE(*decoded == canonicalSchedule(schedule));
      }
    }
    std::vector<uint8_t> longer = image;
    longer.resize(longer.size() + 16);
    CHECK_FALSE(decodeError(longer).empty());
  }
}

TEST_CASE("a schedule comes back from emitted text") {
  Random random;
  INFO("seed ", random.seed);
  for (int i = 0; i < 20; ++i) {
    Schedule schedule = randomSchedule(random, uint32_t(random.integer(1, 3000)),
                                       uint32_t(random.integer(1, 4)), random.real(0, 1));
    for (Form form : {Form::Full, Form::Schedule}) {
      size_t longest = random.integer(1, 30);
      CAPTURE(longest);
      Result<Schedule> decoded =
          decodeEmittedSchedule(emittedText(schedule, form, longest), "kernel");
      REQUIRE_MESSAGE(decoded, decoded.message());
      CHECK(*decoded == canonicalSchedule(schedule));
    }
  }
}

namespace {

/// A case of damage to emitted text: what the error says, what is replaced by what.
struct Damage {
  const char *wanted, *from, *to;
};

void checkRefused(std::string text, const Damage &damage) {
  size_t at = text.find(damage.from);
  REQUIRE(at != std::string::npos);
  text.replace(at, std::string(damage.from).size(), damage.to);
  Result<Schedule> decoded = decodeEmittedSchedule(text, "kernel");
  REQUIRE_MESSAGE(!decoded, damage.wanted);
  INFO(decoded.message());
  CHECK_MESSAGE(decoded.message().find(damage.wanted) != std::string::npos, damage.wanted);
}

} // namespace

TEST_CASE("emitted text that is not a whole schedule is refused by line or field") {
  Schedule schedule{300, 1, 3, 3, {0, 1, 0}, {{2, 0}, {1, 0}}};
  const std::string text = emittedText(schedule, Form::Full);
  const Damage cases[] = {
      {"kSpec is missing", "AttentionSpec kSpec", "AttentionSpec spec"},
      {"does not say .tokens", ".tokens", ".token"},
      {"tokens is 0", ".tokens = 300", ".tokens = 0"},
      {"kHeads is missing", "kHeads = 1", "kHead = 1"},
      {"kHeads is not a number", "kHeads = 1", "kHeads = x"},
      {"kRowClass has 3 rows, but 2 heads", "kHeads = 1", "kHeads = 2"},
      {"not a number", " 1,", " one,"},
      {"no comma", " 1,", " 1;"},
      {"row 1 has class 2, but there are 2", " 1,", " 2,"},
      {"producer of row class 2, wanted 1", "produce_1", "produce_2"},
      {"visit number 2, wanted 1", "visit<1, 0>", "visit<2, 0>"},
      {"visit of block 2 after block 2", "visit<1, 0>", "visit<1, 2>"},
      {"visits block 3, but there are 3", "visit<0, 2>", "visit<0, 3>"},
      {"visit of block 4096 after block 4096", "visit<0, 2>", "visit<0, 4096>"},
      {"is not p.visit<number, block>", "visit<0, 2>", "visit<0>"},
  };
  for (const Damage &damage : cases)
    checkRefused(text, damage);
  std::string cut = text.substr(0, text.find("};\n", text.find("kRowClass")));
  Result<Schedule> none = decodeEmittedSchedule(cut, "kernel");
  REQUIRE_FALSE(none);
  CHECK(none.message().find("ends inside kRowClass") != std::string::npos);
  none = decodeEmittedSchedule("", "kernel");
  REQUIRE_FALSE(none);
  CHECK(none.message() == "kernel: CUDA text: kSpec is missing, so it is no unrolled kernel");
}

TEST_CASE("emitted runs that are not the row's are refused by line") {
  Schedule schedule{900, 1, 8, 8, {0, 1, 0, 0, 0, 0, 0, 0}, {{7, 6, 5, 2, 1}, {3}}};
  const std::string text = emittedText(schedule, Form::Schedule);
  REQUIRE(decodeEmittedSchedule(text, "kernel"));
  const Damage cases[] = {
      {"is not p.run<number, block, count>", "run<0, 5, 3>", "run<0, 5>"},
      {"is not p.run<number, block, count>", "run<0, 5, 3>", "run<0, 5, 4294967296>"},
      {"a run of 0 blocks, wanted 1 to 1023", "run<0, 5, 3>", "run<0, 5, 0>"},
      {"a run of 4294967295 blocks, wanted 1 to 1023", "run<0, 5, 3>", "run<0, 5, 4294967295>"},
      {"visit of block 4294967297 after block 4096", "run<0, 5, 3>", "run<0, 4294967295, 3>"},
      {"visits block 8, but there are 8", "run<0, 5, 3>", "run<0, 6, 3>"},
      {"visit of block 4096 after block 4096", "run<0, 5, 3>", "run<0, 4094, 3>"},
      {"visit of block 5 after block 5", "run<3, 1, 2>", "run<3, 4, 2>"},
      {"visit number 2, wanted 3", "run<3, 1, 2>", "run<2, 1, 2>"},
      {"visit number 3, wanted 2", "run<0, 5, 3>", "run<0, 5, 2>"},
      {"an end after 6 visits, wanted one end after 5", "end<5>", "end<6>"},
      {"an end after 5 visits, wanted one end after 5", "end<5>();",
       "end<5>();\n  return p.end<5>();"},
      {"is not return p.end<visits>", "end<5>", "end<x>"},
      {"row class 0 has runs and no end", "return p.end<5>", "return p.stop<5>"},
      {"visit number 5 after the end", "end<5>();", "end<5>();\n  p.run<5, 0, 1>();"},
      {"row class 1 visits nothing", "  p.run<0, 3, 1>();\n  return p.end<1>();",
       "  return p.end<0>();"},
  };
  for (const Damage &damage : cases)
    checkRefused(text, damage);
}

TEST_CASE("a capacity class is the smallest that holds the image") {
  CHECK(scheduleCapacityClass(0) == 4096);
  CHECK(scheduleCapacityClass(4096) == 4096);
  CHECK(scheduleCapacityClass(4097) == 16384);
  CHECK(scheduleCapacityClass(1 << 20) == 1 << 20);
  CHECK(scheduleCapacityClass((1 << 20) + 1) == 1 << 22);
}

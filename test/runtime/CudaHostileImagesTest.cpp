// Data images that would lead a kernel astray are refused in words, and so are packages whose
// digests are right but whose stored schedules are not: before anything is uploaded, by the GPU's
// session as by the host's.
#include "runtime/src/KernelSchedule.h"
#include "test/format/Forgery.h"
#include "test/runtime/FakeCuda.h"
#include "test/runtime/RuntimeSamples.h"
#include "test/runtime/Session.h"

#include <doctest/doctest.h>

#include <cstddef>
#include <cstring>

using namespace calibatt;
using namespace calibatt::test;

namespace {

// 420 tokens are 4 blocks; the second head packs the 300 queries of its anchor rows into 3 tiles.
constexpr AnchorGrid kGrid{7, 20, 5};
constexpr size_t kRows = sizeof(ScheduleHeader);
constexpr size_t kWords = kRows + 8 * sizeof(RowEntry);

struct Damage {
  const char *wanted;
  size_t offset;
  uint32_t value;
};

ChangeBytes put(size_t offset, uint32_t value) {
  return [=](std::vector<uint8_t> &image) {
    REQUIRE(offset + sizeof value <= image.size());
    std::memcpy(image.data() + offset, &value, sizeof value);
  };
}

constexpr size_t row(uint32_t index) { return kRows + index * sizeof(RowEntry); }
/// The half of a row entry with its counts.
constexpr size_t counts(uint32_t index) { return row(index) + offsetof(RowEntry, words); }
constexpr uint32_t rowCounts(uint32_t words, uint32_t visits) { return words | visits << 16; }

class Hostile {
public:
  explicit Hostile(const SampleShape &shape)
      : shape(shape), sample(random, shape),
        call(random, CALIBATT_DTYPE_BF16, Layout::Padded, 1, shape.heads, shape) {}

  /// The image of kernel 0, changed, as a session checks it.
  void checkRefused(const ChangeBytes &change, const std::string &wanted) {
    CAPTURE(wanted);
    auto package = PackageReader::open(sample.path);
    REQUIRE_MESSAGE(package, package.message());
    const KernelRecord &record = package->kernel(0);
    auto image = package->data(record.data);
    REQUIRE_MESSAGE(image, image.message());
    auto grid = package->compiledGrid(record.code);
    REQUIRE_MESSAGE(grid, grid.message());
    REQUIRE(checkDataImage(*package, 0, *image, *grid));
    change(*image);
    const Status status = checkDataImage(*package, 0, *image, *grid);
    REQUIRE_FALSE(status);
    CHECK_MESSAGE(status.message().find(sample.path + ": kernel 0: ") == 0, status.message());
    CHECK_MESSAGE(status.message().find(wanted) != std::string::npos, status.message());
  }

  /// A call and a prewarming of a session on `device`, over a package with a changed schedule.
  void checkForgery(const char *device, const ChangeBytes &change, const std::string &wanted) {
    CAPTURE(device);
    CAPTURE(wanted);
    cuda = FakeCuda{};
    const std::string path = sample.folder.file("forged.calibatt");
    forgeSchedule(sample.path, path, 0, change);
    const PackageHandle package(path);
    REQUIRE_MESSAGE(package.package, lastError());
    auto options = CALIBATT_INIT(calibatt_session_options_t);
    options.device = device;
    const SessionHandle session(package.package, options);
    REQUIRE_MESSAGE(session.session, lastError());
    CHECK(calibatt_attention(session.session, &call.call) == CALIBATT_STATUS_BAD_PACKAGE);
    const std::string message = lastError();
    CHECK_MESSAGE(message.find(path + ": data image 0: ") != std::string::npos, message);
    CHECK_MESSAGE(message.find(wanted) != std::string::npos, message);
    CHECK(cuda.calls["cuMemAlloc_v2"] == 0);
    CHECK(cuda.calls["cuMemcpyHtoDAsync_v2"] == 0);
    CHECK(cuda.launches.empty());
    const uint32_t step = 0;
    if (options.device == std::string("cuda:0"))
      CHECK(calibatt_session_prewarm(session.session, &step, 1, 1) == CALIBATT_STATUS_BAD_PACKAGE);
    CHECK(cuda.allocations.empty());
  }

  SampleShape shape;
  Random random;
  SamplePackage sample;
  TestCall call;
  FakeCuda &cuda = loadFakeCuda(CALIBATT_FAKE_CUDA);
};

SampleShape shapeOf(Form form, const AnchorGrid &grid) {
  SampleShape shape;
  shape.form = form;
  shape.grid = grid;
  shape.density = 1; // every row is 3, 2, 1, 0: one class
  return shape;
}

} // namespace

TEST_CASE("a step with a repetitive head is launched with the image that packs its anchor rows") {
  Hostile hostile(shapeOf(Form::Runs, kGrid));
  hostile.cuda = FakeCuda{};
  const PackageHandle package(hostile.sample.path);
  auto options = CALIBATT_INIT(calibatt_session_options_t);
  options.device = "cuda:0";
  const SessionHandle session(package.package, options);
  REQUIRE_MESSAGE(calibatt_attention(session.session, &hostile.call.call) == CALIBATT_STATUS_OK,
                  lastError());
  const auto image = buildScheduleImage(hostile.sample.schedule(0, 0), Form::Runs);
  const auto &uploaded = hostile.cuda.launches.at(0).image;
  REQUIRE(uploaded.size() >= image.size());
  CHECK(std::equal(image.begin(), image.end(), uploaded.begin()));
}

TEST_CASE("an image of runs that a kernel must not read is refused before anything is uploaded") {
  Hostile hostile(shapeOf(Form::Runs, kGrid));
  const uint32_t tail = kRowStartsWithTail;
  const Damage cases[] = {
      {"magic is", offsetof(ScheduleHeader, magic), 7},
      {"form is 0, wanted", offsetof(ScheduleHeader, form), 0},
      {"heads is 257, wanted 1 to 256", offsetof(ScheduleHeader, heads), 257},
      {"words_offset is 128, wanted 160", offsetof(ScheduleHeader, heads), 3},
      {"has 5 query and 4 key blocks", offsetof(ScheduleHeader, query_blocks), 5},
      {"has 4 query and 1000 key blocks", offsetof(ScheduleHeader, key_blocks), 1000},
      {"do not fit 400 tokens", offsetof(ScheduleHeader, tokens), 400},
      {"rows_offset is 72", offsetof(ScheduleHeader, rows_offset), 72},
      {"words_offset is 4294967280", offsetof(ScheduleHeader, words_offset), 0xFFFFFFF0},
      {"8 rows and 4294967295 words need", offsetof(ScheduleHeader, word_count), 0xFFFFFFFF},
      {"visits is 27, but the rows have 28", offsetof(ScheduleHeader, visits), 27},
      // The anchors.
      {"5 anchors in a grid of 0 x 20 do not fit", offsetof(ScheduleHeader, grid_height), 0},
      {"5 anchors in a grid of 7 x 4294967295 do not", offsetof(ScheduleHeader, grid_width), ~0u},
      {"0 anchors in a grid of 7 x 20 do not fit", offsetof(ScheduleHeader, anchors), 0},
      {"7 anchors in a grid of 7 x 20 do not fit", offsetof(ScheduleHeader, anchors), 7},
      {"row 6: is not empty, but head 1 has 2 packed", offsetof(ScheduleHeader, anchors), 3},
      {"6 anchors in a grid of 7 x 20, but its code was compiled for 5 in 7 x 20",
       offsetof(ScheduleHeader, anchors), 6},
      // The packed rows.
      {"row 5: visits is", counts(4), rowCounts(1, 4 | tail)},
      {"row 1: visits is", counts(0), rowCounts(1, 4 | tail | kRowIsPacked)},
      {"row 6: has no key blocks", counts(6), 0},
      {"row 7: is not empty", counts(7), rowCounts(1, 4 | tail | kRowIsPacked)},
      // A row and its words.
      {"row 2: words end at 4294967296, but there are 1", row(2), ~0u},
      {"row 2: words end at 65535, but there are 1", counts(2), rowCounts(0xFFFF, 4 | tail)},
      {"row 2: has no key blocks", counts(2), rowCounts(0, 4 | tail)},
      {"row 2: visits is 0x8005, but its words give 0x8004", counts(2), rowCounts(1, 5 | tail)},
      {"row 2: visits is 0x0000, but its words give 0x8004", counts(2), rowCounts(1, 0)},
      {"row 2: visits is 0x0004, but its words give 0x8004", counts(2), rowCounts(1, 4)},
      {"row 0, run 0: ends at block 5, wanted at most 4", kWords, packRun(128, 4)},
      {"row 0, run 0: ends at block 33790", kWords, ~0u - 127},
      {"row 0, run 0: begins at token 1", kWords, packRun(1, 4)},
      {"row 0, run 0: is empty", kWords, packRun(0, 0)},
  };
  for (const Damage &damage : cases)
    hostile.checkRefused(put(damage.offset, damage.value), damage.wanted);
}

TEST_CASE("an image of bitmaps that a kernel must not read is refused before it is uploaded") {
  Hostile hostile(shapeOf(Form::Table, {}));
  const uint32_t tail = kRowStartsWithTail;
  const Damage cases[] = {
      {"its schedule has 400 tokens, but the package says 420", offsetof(ScheduleHeader, tokens),
       400},
      {"row 0: bitmap has block 31, but there are 4", kWords, 1u << 31 | 7},
      {"row 0: has no key blocks", kWords, 0},
      {"row 0: visits is 0x8004, but its words give 0x8003", kWords, 13},
      {"row 0: visits is 0x8004, but its words give 0x0003", kWords, 7},
      {"bitmap has 2 words, but 4 key blocks need 1", offsetof(ScheduleHeader, word_count), 2},
      {"row 3: visits is", counts(3), rowCounts(1, 4 | tail | kRowIsPacked)},
  };
  for (const Damage &damage : cases) {
    const ChangeBytes change = [&](std::vector<uint8_t> &image) {
      put(damage.offset, damage.value)(image);
      if (damage.offset == offsetof(ScheduleHeader, word_count))
        put(counts(0), rowCounts(2, 4 | tail))(image);
    };
    hostile.checkRefused(change, damage.wanted);
  }
}

TEST_CASE("an image of another form, of more heads, or of anchors its code knows nothing of") {
  Hostile hostile(shapeOf(Form::Runs, {}));
  const Schedule schedule = hostile.sample.schedule(0, 0);
  const auto replaced = [&](const Schedule &by, Form form) -> ChangeBytes {
    return [=](std::vector<uint8_t> &image) { image = buildScheduleImage(by, form); };
  };
  hostile.checkRefused(replaced(schedule, Form::Table),
                       "its schedule has form table, but its code has runs");
  hostile.checkRefused(replaced(randomSchedule(hostile.random, 420, 3, 1), Form::Runs),
                       "its schedule has 3 heads, but the package says 2");
  hostile.checkRefused(replaced(withAnchors(schedule, kGrid), Form::Runs),
                       "its schedule has 5 anchors in a grid of 7 x 20, but its code was compiled "
                       "for 0 in 0 x 0");
}

TEST_CASE("a stored schedule that is not the image's is refused before anything is uploaded") {
  Hostile hostile(shapeOf(Form::Runs, {}));
  constexpr size_t kBitmaps = sizeof(ScheduleHeader) + 2;
  const auto shortened = [](std::vector<uint8_t> &stored) { stored.pop_back(); };
  const auto withoutBlock = [](std::vector<uint8_t> &stored) { stored[kBitmaps] ^= 1; };
  const auto beyond = [](std::vector<uint8_t> &stored) { stored[kBitmaps] |= 0x10; };
  const auto empty = [](std::vector<uint8_t> &stored) { stored[kBitmaps + 1] = 0; };
  for (const char *device : {"cuda:0", "host"}) {
    hostile.checkForgery(device, shortened, "bytes of rows");
    hostile.checkForgery(device, withoutBlock, "its rows give");
    hostile.checkForgery(device, beyond, "has blocks beyond the last");
    hostile.checkForgery(device, empty, "row 1 is empty");
    hostile.checkForgery(device, put(offsetof(ScheduleHeader, heads), 257), "has 257 heads");
    hostile.checkForgery(device, put(offsetof(ScheduleHeader, form), 1), "form is 1");
    hostile.checkForgery(device, put(offsetof(ScheduleHeader, form), 3), "its rows give");
  }
}

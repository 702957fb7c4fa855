// The decoders of data images, of emitted text, and of schedules as packages store
// them. First byte: which of them.
#include "runtime/format/ScheduleCodec.h"
#include "runtime/format/ScheduleImage.h"
#include "test/fuzz/FuzzTarget.h"

#include <algorithm>

using namespace calibatt;

namespace {

/// What a kernel does with an accepted schedule stays inside the tensors: each output row of a
/// repetitive head is stored once, from a query of the same column.
void checkAnchors(const Schedule &schedule) {
  if (schedule.repetitive.empty())
    return;
  const AnchorGrid &grid = schedule.grid;
  std::vector<uint8_t> stored(schedule.tokens);
  for (uint32_t i = 0; i < packedQueries(grid, schedule.tokens); ++i) {
    const PackedQuery query = packedQuery(grid, i);
    test::expect(query.token < schedule.tokens && query.first < schedule.tokens &&
                     query.copies >= 1 && query.copies <= grid.height,
                 "a packed query is inside the sequence");
    for (uint32_t copy = 0; copy < query.copies; ++copy) {
      const uint64_t token = query.first + uint64_t(copy) * grid.width;
      test::expect(token < schedule.tokens && !stored[token], "an output row is stored once");
      stored[token] = 1;
    }
  }
  test::expect(std::find(stored.begin(), stored.end(), 0) == stored.end(),
               "every output row is stored");
}

/// What a kernel does with a checked image (codegen/device/schedule.cuh): each word it reads is in
/// the image, each key block in the sequence, and the consumers wait for as many as are loaded.
void checkReads(const ScheduleHeader &header, std::span<const uint8_t> image) {
  const auto read = [&](uint64_t offset, void *to, size_t bytes) {
    test::expect(offset + bytes <= image.size(), "a kernel reads inside the image");
    std::copy_n(image.begin() + int64_t(offset), bytes, static_cast<uint8_t *>(to));
  };
  const uint32_t keyBlocks = (header.tokens + kBlock - 1) / kBlock;
  for (uint64_t row = 0; row < uint64_t(header.heads) * header.query_blocks; ++row) {
    RowEntry entry;
    read(sizeof header + row * sizeof entry, &entry, sizeof entry);
    uint64_t loads = 0, first = kMaxRows; // the block that is visited first, and masked if a tail
    const auto visit = [&](uint64_t token) {
      test::expect(token % kBlock == 0 && token / kBlock < keyBlocks, "a visit is a key block");
      first = loads++ ? first : token / kBlock;
    };
    for (uint32_t i = 0; i < entry.words; ++i) {
      const bool runs = header.form == uint32_t(Form::Runs);
      const uint32_t at = runs ? i : entry.words - 1 - i;
      uint32_t word;
      read(header.words_offset + 4 * (uint64_t(entry.begin) + at), &word, sizeof word);
      for (uint32_t block = runBlocks(word); runs && block-- > 0;)
        visit(runTokenStart(word) + block * kBlock);
      for (uint32_t bit = 32; !runs && bit-- > 0;)
        if (word >> bit & 1)
          visit((uint64_t(at) * 32 + bit) * kBlock);
    }
    test::expect(loads == (entry.visits & kRowVisitsMask), "consumers wait for what is loaded");
    test::expect(loads > 0 || header.anchors > 0, "only repetitive heads have absent rows");
    test::expect(bool(entry.visits & kRowStartsWithTail) ==
                     (header.tokens % kBlock != 0 && first + 1 == keyBlocks),
                 "the tail block is masked");
  }
}

/// What differences are from: 420 tokens, 2 heads, every block of the first column and the
/// diagonal.
ScheduleMasks referenceMasks() {
  ScheduleMasks masks;
  masks.tokens = 420;
  masks.heads = 2;
  for (uint64_t row = 0; row < masks.rows(); ++row)
    masks.words.push_back(uint64_t(1) << row % masks.blocks() | 1);
  return masks;
}

/// First byte 2: whole; 6: a difference from referenceMasks().
void decodeStored(uint8_t which, std::span<const uint8_t> bytes) {
  Result<DecodedSchedule> decoded =
      decodeSchedule(bytes, which & 4 ? referenceMasks() : ScheduleMasks(), "stored");
  if (!decoded)
    return;
  for (Form form : {Form::Runs, Form::Table}) {
    const std::vector<uint8_t> image = buildScheduleImage(decoded->masks, form);
    Result<Schedule> schedule = decodeScheduleImage(image, "image");
    test::expect(bool(schedule), "accepted rows give an image");
    Result<ScheduleMasks> masks = masksOfImage(image, "image");
    test::expect(masks && *masks == decoded->masks, "an image gives its rows");
  }
}

} // namespace

std::vector<std::vector<uint8_t>> test::fuzzSeeds(Random &random) {
  std::vector<std::vector<uint8_t>> seeds;
  for (Form form : {Form::Runs, Form::Table})
    for (const bool repetitive : {false, true}) {
      Schedule schedule = randomSchedule(random, 420, 2, 0.5);
      if (repetitive)
        schedule = withAnchors(std::move(schedule), {7, 20, 5});
      const std::vector<uint8_t> image = buildScheduleImage(schedule, form);
      expect(bool(decodeScheduleImage(image, "seed")), "a seed is a schedule");
      seeds.push_back({0});
      seeds.back().insert(seeds.back().end(), image.begin(), image.end());

      const ScheduleMasks reference = referenceMasks();
      ScheduleMasks masks = repetitive ? masksOf(schedule) : reference;
      if (!repetitive)
        masks.row(1, 2)[0] ^= 2;
      ScheduleHeader header;
      std::copy(image.begin(), image.begin() + sizeof(header),
                reinterpret_cast<uint8_t *>(&header));
      bool isDifference = false;
      const std::vector<uint8_t> stored =
          encodeSchedule(header, masks, repetitive ? nullptr : &reference, isDifference);
      expect(isDifference != repetitive &&
                 bool(decodeSchedule(stored, isDifference ? reference : ScheduleMasks(), "seed")),
             "a seed is a stored schedule");
      seeds.push_back({uint8_t(isDifference ? 6 : 2)});
      seeds.back().insert(seeds.back().end(), stored.begin(), stored.end());
    }
  const std::string head = "constexpr calibatt::AttentionSpec kSpec{.tokens = 300};\n"
                           "constexpr unsigned kHeads = 1;\n"
                           "__device__ const unsigned short kRowClass[] = {\n  0, 1, 0,\n};\n";
  const std::string texts[] = {
      head + "void produce_0(calibatt::Producer<kSpec> p) {\n  p.visit<0, 2>();\n"
             "  p.visit<1, 0>();\n}\n"
             "void produce_1(calibatt::Producer<kSpec> p) {\n  p.visit<0, 1>();\n}\n",
      head + "unsigned produce_0(calibatt::RunLookup p) {\n  p.run<0, 1, 2>();\n"
             "  return p.end<2>();\n}\n"
             "unsigned produce_1(calibatt::RunLookup p) {\n  p.run<0, 2, 1>();\n"
             "  p.run<1, 0, 1>();\n  return p.end<2>();\n}\n",
      // Head 1 packs the 300 queries of 3 frames x 5 anchor rows of 20 into 3 tiles.
      "constexpr calibatt::AttentionSpec kSpec{.tokens = 420, .grid_height = 7, "
      ".grid_width = 20, .anchors = 5};\n"
      "constexpr unsigned kHeads = 2;\n"
      "__device__ const unsigned short kRowClass[] = {\n  0, 1, 0, 1,\n"
      "  32769, 32769, 32769, 65535,\n};\n"
      "void produce_0(calibatt::Producer<kSpec> p) {\n  p.visit<0, 3>();\n}\n"
      "unsigned produce_1(calibatt::RunLookup p) {\n  p.run<0, 0, 4>();\n"
      "  return p.end<4>();\n}\n",
  };
  for (const std::string &text : texts) {
    test::expect(bool(decodeEmittedSchedule(text, "seed")), "a seed is a schedule");
    seeds.push_back({1});
    seeds.back().insert(seeds.back().end(), text.begin(), text.end());
  }
  return seeds;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size == 0)
    return 0;
  std::span<const uint8_t> bytes(data + 1, size - 1);
  if (data[0] & 1) {
    Result<Schedule> schedule =
        decodeEmittedSchedule(std::string(bytes.begin(), bytes.end()), "text");
    if (schedule) {
      test::expect(canonicalSchedule(*schedule) == *schedule, "emitted schedules are canonical");
      checkAnchors(*schedule);
    }
    return 0;
  }
  if (data[0] & 2) {
    decodeStored(data[0], bytes);
    return 0;
  }
  const Result<ScheduleHeader> header = checkScheduleImage(bytes, "image");
  if (header)
    checkReads(*header, bytes);
  Result<Schedule> schedule = decodeScheduleImage(bytes, "image");
  test::expect(bool(schedule) == bool(masksOfImage(bytes, "image")),
               "lists and rows are read from the same images");
  if (schedule) {
    checkAnchors(*schedule);
    std::vector<uint8_t> again = buildScheduleImage(*schedule, Form(header->form));
    test::expect(std::equal(again.begin(), again.end(), bytes.begin(), bytes.end()),
                 "an accepted image is the one its schedule builds");
  }
  return 0;
}

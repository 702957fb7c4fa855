// The decoders of data images and of emitted text. First byte: which of them.
#include "runtime/format/ScheduleImage.h"
#include "test/fuzz/FuzzTarget.h"

#include <algorithm>

using namespace calibatt;

std::vector<std::vector<uint8_t>> test::fuzzSeeds(Random &random) {
  std::vector<std::vector<uint8_t>> seeds;
  for (Form form : {Form::Runs, Form::Table}) {
    seeds.push_back({0});
    for (uint8_t byte : buildScheduleImage(randomSchedule(random, 420, 2, 0.5), form))
      seeds.back().push_back(byte);
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
    if (schedule)
      test::expect(canonicalSchedule(*schedule) == *schedule, "emitted schedules are canonical");
    return 0;
  }
  Result<Schedule> schedule = decodeScheduleImage(bytes, "image");
  if (schedule) {
    ScheduleHeader header;
    std::copy(bytes.begin(), bytes.begin() + sizeof(header), reinterpret_cast<uint8_t *>(&header));
    std::vector<uint8_t> again = buildScheduleImage(*schedule, Form(header.form));
    test::expect(std::equal(again.begin(), again.end(), bytes.begin(), bytes.end()),
                 "an accepted image is the one its schedule builds");
  }
  return 0;
}

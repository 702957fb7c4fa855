// The reader of prompts' records, against counts they may belong to.
#include "calib_profiles/PromptRecord.h"
#include "test/calib/CountsSamples.h"
#include "test/fuzz/FuzzTarget.h"

using namespace calibatt;

namespace {

/// Counts without prompts, the same in every process.
const CountsReader &counts() {
  static const CountsReader reader = [] {
    test::ScratchFolder folder;
    const std::string path = folder.file("counts");
    test::expect(bool(CountsAccumulator::createFile(path, test::sampleCountsHeader(0))),
                 "counts are written");
    Result<CountsReader> opened = CountsReader::open(path); // stays open
    test::expect(bool(opened), "counts are read");
    return opened.take();
  }();
  return reader;
}

} // namespace

std::vector<std::vector<uint8_t>> test::fuzzSeeds(Random &random) {
  ScratchFolder folder;
  const std::string path = folder.file("counts");
  std::mt19937_64 engine(random.integer(0, ~uint64_t(0)));
  expect(bool(writeSampleRecord(path, sampleCountsHeader(0), "a prompt", engine)),
         "a record is written");
  return {readBytes(recordPath(path))};
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  test::MemoryFile memory({data, size});
  Result<PromptReader> record = PromptReader::open(memory.path(), counts());
  if (!record)
    return 0;
  std::vector<uint16_t> blocks;
  for (uint64_t site = 0; site < counts().layout().sites; ++site)
    if (record->blocks(site, blocks)) {
      uint64_t kept = 0;
      for (uint16_t block : blocks)
        kept += block >> 15;
      test::expect(kept == record->scalars(site).kept, "kept blocks are counted");
    }
  return 0;
}

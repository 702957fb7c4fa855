// The reader of counts, and selecting from what it lets through.
#include "calib_profiles/CountsMerge.h"
#include "calib_profiles/CountsSelection.h"
#include "test/calib/CountsSamples.h"
#include "test/fuzz/FuzzTarget.h"

using namespace calibatt;

namespace {

/// Four prompts of 16 bytes instead of 255 of 1024, which mutations would waste themselves on.
bool shortenPromptIds(const std::string &path) {
  Result<SafetensorsReader> file = SafetensorsReader::open(path);
  Result<SafetensorsWriter> writer = SafetensorsWriter::create(path);
  if (!file || !writer)
    return false;
  writer->setMetadata(kCountsKey, *file->metadata(kCountsKey));
  for (const TensorEntry &entry : file->tensors()) {
    Result<TensorView> read = file->load(entry);
    if (!read)
      return false;
    const TensorView &tensor = *read;
    if (tensor.name != "prompt_ids") {
      if (!writer->add(tensor.name, tensor.dtype, tensor.shape, tensor.data))
        return false;
      continue;
    }
    std::vector<uint8_t> ids;
    for (size_t i = 0; i < 4 * 16; ++i)
      ids.push_back(tensor.data[i / 16 * kPromptIdBytes + i % 16]);
    if (!writer->add(tensor.name, tensor.dtype, {4, 16}, ids))
      return false;
  }
  return bool(writer->finish());
}

} // namespace

std::vector<std::vector<uint8_t>> test::fuzzSeeds(Random &random) {
  std::vector<std::vector<uint8_t>> seeds;
  ScratchFolder folder;
  for (const uint32_t maxText : {0, 100}) {
    const std::string sums = folder.file("sums"), means = folder.file("means");
    std::mt19937_64 engine(random.integer(0, ~uint64_t(0)));
    const ProfileHeader header = sampleCountsHeader(maxText);
    expect(bool(writeSampleCounts(sums, header, {"a", "b", "c"}, engine)), "counts are written");
    expect(bool(mergeCounts({sums}, means, CountsKind::Means, 1, [](uint64_t, uint64_t) {})),
           "means are written");
    for (const std::string &path : {sums, means}) {
      expect(shortenPromptIds(path), "a file with a short table of prompts is written");
      expect(bool(CountsReader::open(path)), "and is read");
      seeds.push_back(readBytes(path));
    }
  }
  return seeds;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  test::MemoryFile memory({data, size});
  Result<CountsReader> counts = CountsReader::open(memory.path());
  if (!counts)
    return 0;
  const ProfileHeader &h = counts->header();
  for (uint64_t index = 0; index < counts->layout().sites; ++index) {
    Result<SiteCounts> site = counts->site(index);
    if (!site)
      continue;
    test::expect(site->blocks == h.blocks() && site->prompts == h.prompts,
                 "a site is as described");
    test::expect(counts->scalars(index).rowMax == counts->scalars(index).rowMax,
                 "a row maximum is a number");
    for (uint8_t count : site->counts)
      test::expect(count <= h.prompts, "no block is kept by more prompts than there are");
  }
  SelectionOptions options;
  options.hysteresis = 0.2;
  options.singletons = 0.5;
  Result<CountsSelection> selection = CountsSelection::create(*counts, options);
  if (!selection)
    return 0;
  for (uint32_t layer = 0; layer < h.layers; ++layer)
    for (uint32_t head = 0; head < h.heads; ++head) {
      DenoisingCosts costs;
      Result<HeadProfile> profile = selection->head(layer, head, costs);
      if (!profile)
        continue;
      for (const SiteStats &stats : profile->stats)
        test::expect(stats.keptMass >= 0 && stats.keptMass <= 1 && stats.repetition >= -1 &&
                         stats.repetition <= 1,
                     "scalars are in range");
      for (const BlockMask &mask : profile->masks)
        for (uint32_t row = 0; row < mask.rows(); ++row)
          test::expect(mask.get(row, row), "the diagonal is kept");
    }
  return 0;
}

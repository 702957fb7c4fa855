// The reader of counts, and selecting from what it lets through: damaged files, and files whose
// digest fits again.
#include "calib_profiles/CountsMerge.h"
#include "calib_profiles/CountsSelection.h"
#include "test/calib/CountsSamples.h"
#include "test/fuzz/RenewedDigest.h"

using namespace calibatt;

namespace {

/// Four prompts of 16 bytes instead of 255 of 1024, which mutations would waste themselves on.
bool shortenPromptIds(const std::string &path) {
  Result<SafetensorsReader> file = SafetensorsReader::open(path);
  Result<SafetensorsWriter> writer = SafetensorsWriter::create(path);
  if (!file || !writer)
    return false;
  writer->setMetadata(kCountsKey, *file->metadata(kCountsKey));
  std::vector<uint8_t> state, ids;
  for (const TensorEntry &entry : file->tensors()) {
    Result<TensorView> read = file->load(entry);
    if (!read)
      return false;
    const TensorView &tensor = *read;
    if (tensor.name == "state")
      state.assign(tensor.data.begin(), tensor.data.end());
    if (tensor.name == "digest")
      continue;
    if (tensor.name != "prompt_ids") {
      if (!writer->add(tensor.name, tensor.dtype, tensor.shape, tensor.data))
        return false;
      continue;
    }
    for (size_t i = 0; i < 4 * 16; ++i)
      ids.push_back(tensor.data[i / 16 * kPromptIdBytes + i % 16]);
    if (!writer->add(tensor.name, tensor.dtype, {4, 16}, ids))
      return false;
  }
  const Sha256Digest digest = countsDigest(*file->metadata(kCountsKey), state, ids);
  return writer->add("digest", DType::U8, {digest.size()}, digest) && writer->finish();
}

/// The same with the digest that fits; empty where it has none.
std::vector<uint8_t> withFittingDigest(std::span<const uint8_t> bytes, const std::string &path) {
  Result<SafetensorsReader> file = SafetensorsReader::open(path);
  if (!file)
    return {};
  const Result<TensorView> state = file->tensor("state"), ids = file->tensor("prompt_ids"),
                           digest = file->tensor("digest");
  const std::string *document = file->metadata(kCountsKey);
  if (!state || !ids || !digest || !document || digest->data.size() != sizeof(Sha256Digest))
    return {};
  std::vector<uint8_t> forged(bytes.begin(), bytes.end());
  const Sha256Digest fitting = countsDigest(*document, state->data, ids->data);
  std::copy(fitting.begin(), fitting.end(), test::bytesOf(forged, *digest));
  return forged;
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

namespace {

void readCounts(const std::string &path) {
  Result<CountsReader> counts = CountsReader::open(path);
  if (!counts)
    return;
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
    return;
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
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  test::MemoryFile memory({data, size});
  readCounts(memory.path());
  if (std::vector<uint8_t> forged = withFittingDigest({data, size}, memory.path()); !forged.empty())
    readCounts(test::MemoryFile(forged).path());
  return 0;
}

// The profile reader: damaged files, and, since hashes stop those early, files whose hashes fit
// again.
#include "calib_profiles/Profile.h"
#include "runtime/format/Hash.h"
#include "test/fuzz/RenewedDigest.h"

using namespace calibatt;

namespace {

HeadProfile randomHead(test::Random &random, const ProfileHeader &header) {
  HeadProfile head;
  for (uint32_t step = 0; step < header.stepCount(); ++step) {
    const bool repetitive = random.integer(0, 3) == 0;
    BlockMask mask = BlockMask::dense(header.blocks(), header.blocks());
    for (uint32_t row = 0; row < header.blocks() && !repetitive; ++row)
      for (uint32_t column = 0; column < header.blocks(); ++column)
        mask.set(row, column, row == column || random.integer(0, 1));
    head.stats.push_back({0.9f, float(mask.density()), repetitive ? 0.9f : 0.1f, 7});
    head.masks.push_back(std::move(mask));
    head.stepMask.push_back(step);
  }
  return head;
}

} // namespace

std::vector<std::vector<uint8_t>> test::fuzzSeeds(Random &random) {
  std::vector<std::vector<uint8_t>> seeds;
  ScratchFolder folder;
  for (const uint32_t maxText : {0, 100}) {
    ProfileHeader header;
    header.model = "fuzz";
    header.grid = {3, 7, 20};
    header.layers = 2;
    header.heads = 2;
    header.headDim = 64;
    header.steps = {{900, 0.9, "high"}, {500, 0.5, "low"}, {1, 0.1, "low"}};
    header.maxText = maxText;
    header.scale = 0.125;
    header.criterion = {0.763, 0.863, 5.64, 0.5, 0.87, 5};
    header.prompts = 3;
    header.promptsHash = "ab12";
    header.tool = "a test";
    const std::string path = folder.file("p.calib.safetensors");
    Result<ProfileWriter> writer = ProfileWriter::create(path, header);
    expect(bool(writer), "the seed's header is well-formed");
    for (uint32_t i = 0; i < header.layers * header.heads; ++i)
      expect(bool(writer->append(randomHead(random, header))), "the seed's masks are well-formed");
    expect(bool(writer->finish()), "the seed is written");
    seeds.push_back(readBytes(path));
  }
  return seeds;
}

namespace {

/// The same with the hashes of frames that it has, as far as its index can be followed.
std::vector<uint8_t> withRenewedFrames(std::span<const uint8_t> bytes, const std::string &path) {
  std::vector<uint8_t> forged(bytes.begin(), bytes.end());
  Result<SafetensorsReader> file = SafetensorsReader::open(path);
  if (!file)
    return forged;
  const Result<TensorView> pool = file->tensor("pool"), index = file->tensor("pool_index"),
                           hashes = file->tensor("pool_hash");
  if (!pool || !index || !hashes || dtypeBytes(index->dtype) != sizeof(uint64_t))
    return forged;
  uint8_t *out = test::bytesOf(forged, *hashes);
  const uint64_t entries =
      std::min(index->elements() / 3, hashes->data.size() / sizeof(Xxh128Digest));
  for (uint64_t i = 0; i < entries; ++i) {
    const uint64_t begin = index->load<uint64_t>(3 * i), size = index->load<uint64_t>(3 * i + 1);
    if (begin > pool->data.size() || size > pool->data.size() - begin)
      break;
    const uint64_t padded = (size + kBlobAlignment - 1) / kBlobAlignment * kBlobAlignment;
    const Xxh128Digest hash =
        xxh128(pool->data.subspan(begin, std::min(padded, pool->data.size() - begin)));
    std::copy(hash.begin(), hash.end(), out + i * hash.size());
  }
  return forged;
}

void readProfile(const std::string &path) {
  Result<ProfileReader> profile = ProfileReader::open(path);
  if (!profile)
    return;
  const ProfileHeader &h = profile->header();
  for (uint32_t layer = 0; layer < h.layers; ++layer)
    for (uint32_t head = 0; head < h.heads; ++head) {
      Result<HeadProfile> decoded = profile->head(layer, head);
      if (!decoded)
        continue;
      test::expect(decoded->stepMask.size() == h.stepCount() &&
                       decoded->stats.size() == h.stepCount(),
                   "every step has a mask and its scalars");
      for (uint32_t step = 0; step < h.stepCount(); ++step) {
        test::expect(decoded->stepMask[step] < decoded->masks.size(), "a step's mask exists");
        const BlockMask &mask = decoded->masks[decoded->stepMask[step]];
        test::expect(mask.rows() == h.blocks() && mask.cols() == h.blocks(),
                     "a mask has the profile's blocks");
        test::expect(!profile->isRepetitive(layer, head, step) || mask.density() == 1,
                     "a repetitive site has a dense mask");
      }
    }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  test::MemoryFile memory({data, size});
  readProfile(memory.path());
  const test::MemoryFile frames(withRenewedFrames({data, size}, memory.path()));
  const std::vector<uint8_t> forged =
      test::withRenewedDigest(test::readBytes(frames.path()), frames.path());
  if (!forged.empty())
    readProfile(test::MemoryFile(forged).path());
  return 0;
}

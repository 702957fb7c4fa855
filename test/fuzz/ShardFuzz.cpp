// Shards of a compile, damaged as packages are, and merged: the only one of a set of one, so that
// what is read of it is all that a merge reads.
#include "runtime/format/Package.h"
#include "runtime/format/PackageMerge.h"
#include "test/fuzz/RenewedDigest.h"

#include <numeric>

using namespace calibatt;

namespace {

void mergeAlone(const std::string &path) {
  static const test::ScratchFolder folder;
  const std::string merged = folder.file("merged.calibatt");
  if (!mergePackages({path}, merged)) {
    test::expect(folder.list().empty(), "a merge that fails leaves no file");
    return;
  }
  test::expect(bool(PackageReader::open(merged)), "what a merge writes is a package");
  std::filesystem::remove(merged);
}

} // namespace

std::vector<std::vector<uint8_t>> test::fuzzSeeds(Random &random) {
  ScratchFolder folder;
  PackageContent content = randomContent(random, 40);
  Shard shard{.index = 1, .count = 1, .options = "--form auto"};
  shard.layers.resize(content.manifest.problem.layers);
  std::iota(shard.layers.begin(), shard.layers.end(), 0u);
  shard.remarks.resize(shard.layers.size(), {"a remark"});
  content.manifest.shard = shard;
  const std::string path = folder.file("1.calibatt"), merged = folder.file("merged.calibatt");
  expect(bool(fill(content).write(path)), "the seed is well-formed");
  expect(bool(mergePackages({path}, merged)), "the seed can be merged");
  return {readBytes(path)};
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  std::span<const uint8_t> bytes(data, size);
  test::MemoryFile damaged(bytes);
  mergeAlone(damaged.path());
  if (std::vector<uint8_t> forged = test::withRenewedDigest(bytes, damaged.path()); !forged.empty())
    mergeAlone(test::MemoryFile(forged).path());
  return 0;
}

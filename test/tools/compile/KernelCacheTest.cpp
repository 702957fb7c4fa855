// Entries of the kernel cache: found again, bit for bit, or not at all.
#include "compiler/KernelCache.h"
#include "test/tools/ToolRun.h"

#include <doctest/doctest.h>
#include <random>

using namespace calibatt;
using namespace calibatt::test;

namespace {

CodeImage randomImage(unsigned seed) {
  std::mt19937 random(seed);
  CodeImage image;
  image.symbol = "calibatt_runs_" + std::to_string(random());
  image.form = Form(random() % 4);
  image.arch = "sm_90a";
  for (unsigned i = 0, n = 1 + random() % 5000; i < n; ++i)
    image.fatbin.push_back(uint8_t(random()));
  image.ptx = std::string(random() % 300, 'p');
  image.registers = random() % 256;
  image.spillStores = random();
  image.spillLoads = random();
  image.staticSmem = random();
  image.dynamicSmem = random();
  image.codeBytes = random();
  return image;
}

void checkEqual(const CodeImage &a, const CodeImage &b) {
  CHECK(a.symbol == b.symbol);
  CHECK(a.form == b.form);
  CHECK(a.arch == b.arch);
  CHECK(a.fatbin == b.fatbin);
  CHECK(a.ptx == b.ptx);
  CHECK(a.registers == b.registers);
  CHECK(a.spillStores == b.spillStores);
  CHECK(a.spillLoads == b.spillLoads);
  CHECK(a.staticSmem == b.staticSmem);
  CHECK(a.dynamicSmem == b.dynamicSmem);
  CHECK(a.codeBytes == b.codeBytes);
}

ContentStore storeIn(const TemporaryFolder &folder) {
  auto store = ContentStore::open(folder.path.string());
  REQUIRE_MESSAGE(store, (store ? "" : store.message()));
  return store.take();
}

} // namespace

TEST_CASE("a kernel that is put is found again, by its key only, and can be replaced") {
  TemporaryFolder folder;
  unsigned seed = std::random_device{}();
  INFO("seed ", seed);
  KernelCache cache(storeIn(folder));
  std::string key = KernelCache::key("source", "tools"),
              other = KernelCache::key("source2", "tools");
  CHECK(!cache.find(key));
  CodeImage image = randomImage(seed);
  REQUIRE(cache.put(key, image));
  auto found = cache.find(key);
  REQUIRE(found);
  checkEqual(*found, image);
  CHECK(!cache.find(other));

  CodeImage newer = randomImage(seed + 1);
  REQUIRE(cache.put(key, newer));
  checkEqual(*cache.find(key), newer);
}

TEST_CASE("a key depends on the source and the toolchain, and on where one ends") {
  CHECK(KernelCache::key("a", "b") == KernelCache::key("a", "b"));
  CHECK(KernelCache::key("a", "b") != KernelCache::key("a", "c"));
  CHECK(KernelCache::key("a", "b") != KernelCache::key("c", "b"));
  CHECK(KernelCache::key("ab", "c") != KernelCache::key("b", "ca"));
  CHECK(KernelCache::key("x", "") != KernelCache::key("", "x"));
}

TEST_CASE("an entry that is whole, but no kernel, is a miss") {
  TemporaryFolder folder;
  ContentStore store = storeIn(folder);
  KernelCache cache(store);
  std::string key = KernelCache::key("source", "tools");
  CodeImage image = randomImage(7);
  image.fatbin.resize(40);
  image.ptx.clear();
  REQUIRE(cache.put(key, image));
  auto entry = store.get("kernel", key);
  REQUIRE(entry);
  for (size_t length = 0; length < entry->size(); ++length) {
    REQUIRE(store.put("kernel", key, std::span(*entry).first(length)));
    CHECK(!cache.find(key));
  }
  for (size_t i : {0, 1, 2, 3, 4, 20}) {
    std::vector<uint8_t> bad = *entry;
    bad[i] ^= 0xFF;
    REQUIRE(store.put("kernel", key, bad));
    CHECK(!cache.find(key));
  }
}

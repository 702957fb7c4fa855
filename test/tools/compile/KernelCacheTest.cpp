// Entries of the kernel cache: found again, bit for bit, or not at all.
#include "compiler/KernelCache.h"
#include "test/tools/ToolRun.h"

#include <atomic>
#include <doctest/doctest.h>
#include <random>
#include <thread>

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

std::vector<std::string> filesOf(const std::string &folder) {
  std::vector<std::string> files;
  for (const auto &entry : std::filesystem::recursive_directory_iterator(folder))
    if (entry.is_regular_file())
      files.push_back(entry.path().string());
  return files;
}

/// No temporary file stays beside it.
std::string onlyFile(const std::string &folder) {
  std::vector<std::string> files = filesOf(folder);
  REQUIRE(files.size() == 1);
  return files.front();
}

} // namespace

TEST_CASE("what is stored is found again, by its key only") {
  TemporaryFolder folder;
  unsigned seed = std::random_device{}();
  INFO("seed ", seed);
  auto cache = KernelCache::open(folder.file("a/b"));
  REQUIRE(cache);
  std::string key = KernelCache::key("source", "tools"),
              other = KernelCache::key("source2", "tools");
  CHECK(!cache->find(key));
  CodeImage image = randomImage(seed);
  REQUIRE(cache->store(key, image));
  auto found = cache->find(key);
  REQUIRE(found);
  checkEqual(*found, image);
  CHECK(!cache->find(other));

  CodeImage newer = randomImage(seed + 1);
  REQUIRE(cache->store(key, newer));
  checkEqual(*cache->find(key), newer);
  onlyFile(folder.path.string());
}

TEST_CASE("a key depends on the source and the toolchain, and on where one ends") {
  CHECK(KernelCache::key("a", "b") == KernelCache::key("a", "b"));
  CHECK(KernelCache::key("a", "b") != KernelCache::key("a", "c"));
  CHECK(KernelCache::key("a", "b") != KernelCache::key("c", "b"));
  CHECK(KernelCache::key("ab", "c") != KernelCache::key("b", "ca"));
  CHECK(KernelCache::key("x", "") != KernelCache::key("", "x"));
}

TEST_CASE("an entry cut anywhere, with any byte changed or with one more is a miss") {
  TemporaryFolder folder;
  auto cache = KernelCache::open(folder.path.string());
  REQUIRE(cache);
  std::string key = KernelCache::key("source", "tools");
  CodeImage image = randomImage(7);
  image.fatbin.resize(40);
  image.ptx.resize(20);
  REQUIRE(cache->store(key, image));
  std::string path = onlyFile(folder.path.string());
  const std::vector<uint8_t> good = readBytes(path);
  for (size_t i = 0; i < good.size(); ++i) {
    std::vector<uint8_t> bad = good;
    bad[i] ^= 0x40;
    writeBytes(path, bad);
    CHECK(!cache->find(key));
    writeBytes(path, {good.begin(), good.begin() + ptrdiff_t(i)});
    CHECK(!cache->find(key));
  }
  std::vector<uint8_t> longer = good;
  longer.push_back('x');
  writeBytes(path, longer);
  CHECK(!cache->find(key));
  writeBytes(path, good);
  CHECK(cache->find(key));
}

TEST_CASE("an entry under another's name is a miss") {
  TemporaryFolder folder;
  auto cache = KernelCache::open(folder.path.string());
  REQUIRE(cache);
  std::string one = KernelCache::key("one", ""), two = KernelCache::key("two", "");
  REQUIRE(cache->store(one, randomImage(3)));
  std::string entry = onlyFile(folder.path.string());
  REQUIRE(cache->store(two, randomImage(4)));
  std::vector<std::string> files = filesOf(folder.path.string());
  REQUIRE(files.size() == 2);
  for (const std::string &file : files)
    if (file != entry)
      writeBytes(file, readBytes(entry));
  CHECK(cache->find(one));
  CHECK(!cache->find(two));
}

TEST_CASE("a cache that cannot be a folder is refused by name") {
  TemporaryFolder folder;
  std::string path = folder.file("file");
  writeBytes(path, {1});
  auto cache = KernelCache::open(path);
  REQUIRE(!cache);
  CHECK(cache.message().starts_with(path + ": "));
}

TEST_CASE("several writers of one key leave one whole entry") {
  TemporaryFolder folder;
  auto cache = KernelCache::open(folder.path.string());
  REQUIRE(cache);
  std::string key = KernelCache::key("source", "tools");
  CodeImage image = randomImage(11);
  std::vector<std::thread> writers;
  std::atomic<int> failures{0};
  for (int i = 0; i < 4; ++i)
    writers.emplace_back([&] {
      for (int n = 0; n < 10; ++n)
        failures += !cache->store(key, image);
    });
  for (std::thread &writer : writers)
    writer.join();
  CHECK(failures == 0);
  onlyFile(folder.path.string());
  auto found = cache->find(key);
  REQUIRE(found);
  checkEqual(*found, image);
}

// The kernel cache, alone and under real compiles: a damaged entry is a miss,
// and what comes from the cache is what a compile gives.
#include "compiler/KernelCache.h"
#include "compiler/KernelBuild.h"
#include "test/device/SamplePlans.h"

#include <algorithm>
#include <doctest/doctest.h>
#include <filesystem>
#include <fstream>
#include <iterator>

using namespace calibatt;
using namespace calibatt::test;

namespace {

namespace fs = std::filesystem;

/// A cache folder of one test.
struct Folder {
  explicit Folder(const char *name) : path(fs::path(CALIBATT_BINARY_DIR) / name) {
    fs::remove_all(path);
  }
  ~Folder() { fs::remove_all(path); }
  std::vector<fs::path> entries() const {
    std::vector<fs::path> files;
    for (const auto &entry : fs::recursive_directory_iterator(path))
      if (entry.is_regular_file())
        files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    return files;
  }

  fs::path path;
};

std::string readText(const fs::path &path) {
  std::ifstream in(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

void writeText(const fs::path &path, const std::string &text) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << text;
}

CodeImage makeImage() {
  CodeImage image;
  image.symbol = "calibatt_runs_0123456789abcdef";
  image.form = Form::Table;
  image.arch = "sm_90a";
  image.fatbin = {0x50, 0xed, 0x55, 0xba, 0, 1, 2, 3};
  image.ptx = "// ptx";
  image.registers = 168;
  image.spillStores = 4;
  image.spillLoads = 8;
  image.staticSmem = 1024;
  image.dynamicSmem = 165888;
  image.codeBytes = 30000;
  return image;
}

void checkSame(const CodeImage &a, const CodeImage &b) {
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

KernelCache openCache(const Folder &folder) {
  auto cache = KernelCache::open(folder.path);
  REQUIRE_MESSAGE(cache, (cache ? "" : cache.message()));
  return cache.take();
}

} // namespace

TEST_CASE("what is stored is found again, under its own key only") {
  Folder folder("kernel_cache_store");
  KernelCache cache = openCache(folder);
  std::string key = KernelCache::key("source", "toolchain");
  CHECK(!cache.find(key));
  REQUIRE(cache.store(key, makeImage()));
  auto found = cache.find(key);
  REQUIRE(found);
  checkSame(*found, makeImage());
  CHECK(!cache.find(KernelCache::key("source2", "toolchain")));
  CHECK(folder.entries().size() == 1); // no temporary file stays
}

TEST_CASE("source and toolchain both make the key, and cannot trade bytes") {
  CHECK(KernelCache::key("a", "b") == KernelCache::key("a", "b"));
  CHECK(KernelCache::key("a", "b") != KernelCache::key("c", "b"));
  CHECK(KernelCache::key("a", "b") != KernelCache::key("a", "c"));
  CHECK(KernelCache::key("ab", "c") != KernelCache::key("b", "ca"));
  CHECK(KernelCache::key("x", "") != KernelCache::key("", "x"));
}

TEST_CASE("every flipped byte and every truncation of an entry is a miss") {
  Folder folder("kernel_cache_damage");
  KernelCache cache = openCache(folder);
  std::string key = KernelCache::key("source", "toolchain");
  REQUIRE(cache.store(key, makeImage()));
  fs::path entry = folder.entries().at(0);
  const std::string good = readText(entry);
  size_t hits = 0;
  for (size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = char(bad[i] ^ 0x10);
    writeText(entry, bad);
    hits += cache.find(key).has_value();
    writeText(entry, good.substr(0, i));
    hits += cache.find(key).has_value();
  }
  writeText(entry, good + "x");
  hits += cache.find(key).has_value();
  CHECK(hits == 0);
  writeText(entry, good);
  CHECK(cache.find(key));
}

TEST_CASE("an entry under another entry's name is a miss") {
  Folder folder("kernel_cache_swap");
  KernelCache cache = openCache(folder);
  std::string one = KernelCache::key("one", ""), two = KernelCache::key("two", "");
  REQUIRE(cache.store(one, makeImage()));
  fs::path entry = folder.entries().at(0);
  REQUIRE(cache.store(two, makeImage()));
  for (const fs::path &file : folder.entries())
    if (file != entry)
      fs::copy_file(entry, file, fs::copy_options::overwrite_existing);
  CHECK(cache.find(one));
  CHECK(!cache.find(two));
}

TEST_CASE("a cache that cannot be a folder is refused by name") {
  Folder folder("kernel_cache_file");
  writeText(folder.path, "a file");
  auto cache = KernelCache::open(folder.path);
  REQUIRE(!cache);
  CHECK(cache.message().starts_with(folder.path.string() + ": "));
}

TEST_CASE("kernels from the cache are those of a compile, and a damaged one is compiled again") {
  Folder folder("kernel_cache_build");
  std::vector<KernelSource> sources;
  for (Form form : {Form::Runs, Form::Table}) {
    SamplePlan sample = makeSample("cached", form, 64, 420, 1, 0.6, 5);
    sources.push_back({kernelSymbol(sample.plan), emitKernel(sample.plan), form,
                       uint32_t(smemBytes(sample.plan.spec))});
  }
  CompileOptions options;
  options.cacheFolder = folder.path;
  auto build = KernelBuild::open(options);
  REQUIRE_MESSAGE(build, (build ? "" : build.message()));
  auto compile = [&](uint32_t jobs) {
    auto result = build->compile(sources, jobs, CompileEvents{});
    REQUIRE_MESSAGE(result, (result ? "" : result.message()));
    REQUIRE(result->images.size() == sources.size());
    return result.take();
  };
  KernelBuildResult first = compile(2);
  CHECK(first.cached == 0);
  CHECK(folder.entries().size() == sources.size());
  KernelBuildResult second = compile(1);
  CHECK(second.cached == sources.size());

  fs::path damaged = folder.entries().at(0);
  std::string text = readText(damaged);
  text[text.size() / 2] = char(text[text.size() / 2] ^ 1);
  writeText(damaged, text);
  KernelBuildResult third = compile(2);
  CHECK(third.cached == sources.size() - 1);
  CHECK(compile(2).cached == sources.size()); // it has been stored again
  for (size_t i = 0; i < sources.size(); ++i) {
    checkSame(second.images[i], first.images[i]);
    checkSame(third.images[i], first.images[i]);
    CHECK(first.images[i].cuda == sources[i].cuda);
  }
}

// Entries of the kernel cache: found again, bit for bit, or not at all.
#include "compiler/KernelCache.h"
#include "test/tools/ToolRun.h"

#include <doctest/doctest.h>

#include <cstring>
#include <elf.h>
#include <functional>
#include <random>

using namespace calibatt;
using namespace calibatt::test;

namespace {

constexpr const char *kArch = "sm_90a";

KernelSource randomSource(std::mt19937 &random) {
  return {"calibatt_runs_" + std::to_string(random()), "text " + std::to_string(random()),
          Form(random() % 4), uint32_t(random())};
}

template <typename T> void append(std::vector<uint8_t> &out, const T &value) {
  out.resize(out.size() + sizeof(T));
  std::memcpy(out.data() + out.size() - sizeof(T), &value, sizeof(T));
}

/// An ELF file with one section of code, of the kernel's name.
std::vector<uint8_t> cubinOf(const std::string &symbol, const std::vector<uint8_t> &code) {
  const std::string names = std::string(1, 0) + ".text." + symbol + std::string(1, 0);
  Elf64_Ehdr header{};
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = ELFCLASS64;
  header.e_ident[EI_DATA] = ELFDATA2LSB;
  header.e_shentsize = sizeof(Elf64_Shdr);
  header.e_shnum = 3;
  header.e_shstrndx = 1;
  header.e_shoff = sizeof header + names.size() + code.size();
  std::vector<uint8_t> file;
  append(file, header);
  file.insert(file.end(), names.begin(), names.end());
  file.insert(file.end(), code.begin(), code.end());
  append(file, Elf64_Shdr{});
  append(file,
         Elf64_Shdr{.sh_type = SHT_STRTAB, .sh_offset = sizeof header, .sh_size = names.size()});
  append(file, Elf64_Shdr{.sh_name = 1,
                          .sh_type = SHT_PROGBITS,
                          .sh_offset = sizeof header + names.size(),
                          .sh_size = code.size()});
  return file;
}

CodeImage randomImage(const KernelSource &source, std::mt19937 &random) {
  CodeImage image;
  image.symbol = source.symbol;
  image.form = source.form;
  image.arch = kArch;
  std::vector<uint8_t> code(1 + random() % 5000);
  for (uint8_t &byte : code)
    byte = uint8_t(random());
  image.fatbin = cubinOf(source.symbol, code);
  image.ptx = ".target sm_90a\n.entry " + source.symbol + std::string(random() % 300, 'p');
  image.registers = random() % 256;
  image.spillStores = random();
  image.spillLoads = random();
  image.staticSmem = random();
  image.dynamicSmem = source.dynamicSmem;
  image.codeBytes = uint32_t(code.size());
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

TEST_CASE("a kernel that is put is found again, by its source only, and can be replaced") {
  TemporaryFolder folder;
  const unsigned seed = std::random_device{}();
  INFO("seed ", seed);
  std::mt19937 random(seed);
  KernelCache cache(storeIn(folder), "tools", kArch);
  const KernelSource source = randomSource(random), other = randomSource(random);
  std::string problem;
  CHECK(!cache.find(source, &problem));
  const CodeImage image = randomImage(source, random), newer = randomImage(source, random);
  REQUIRE(cache.put(source, image));
  auto found = cache.find(source);
  REQUIRE(found);
  checkEqual(*found, image);
  CHECK(!cache.find(other, &problem));
  CHECK(problem.empty());
  REQUIRE(cache.put(source, newer));
  checkEqual(*cache.find(source), newer);
}

TEST_CASE("a key depends on source, toolchain and architecture, and on where one ends") {
  TemporaryFolder folder;
  auto key = [&](const std::string &text, const std::string &tools, const std::string &arch) {
    return KernelCache(storeIn(folder), tools, arch).key({"symbol", text});
  };
  CHECK(key("a", "b", "c") == key("a", "b", "c"));
  CHECK(key("a", "b", "c") != key("d", "b", "c"));
  CHECK(key("a", "b", "c") != key("a", "d", "c"));
  CHECK(key("a", "b", "c") != key("a", "b", "d"));
  CHECK(key("ab", "c", "d") != key("a", "bc", "d"));
  CHECK(key("a", "bc", "d") != key("a", "b", "cd"));
}

TEST_CASE("an entry that is whole, but no kernel, is a miss that says why") {
  TemporaryFolder folder;
  std::mt19937 random(std::random_device{}());
  ContentStore store = storeIn(folder);
  KernelCache cache(store, "tools", kArch);
  const KernelSource source = randomSource(random);
  const std::string key = cache.key(source);
  REQUIRE(cache.put(source, randomImage(source, random)));
  auto entry = store.get("kernel", key);
  REQUIRE(entry);
  for (size_t length = 0; length < entry->size(); length += 1 + random() % 40) {
    REQUIRE(store.put("kernel", key, std::span(*entry).first(length)));
    std::string problem;
    CHECK(!cache.find(source, &problem));
    CHECK(problem.starts_with(store.path("kernel", key) + ": "));
  }
  for (size_t i : {0, 1, 2, 3, 4, 20}) {
    std::vector<uint8_t> bad = *entry;
    bad[i] ^= 0xFF;
    REQUIRE(store.put("kernel", key, bad));
    CHECK(!cache.find(source));
  }
}

TEST_CASE("a whole kernel of other facts than its source's, or without its code, is a miss") {
  TemporaryFolder folder;
  std::mt19937 random(std::random_device{}());
  ContentStore store = storeIn(folder);
  KernelCache cache(store, "tools", kArch);
  const KernelSource source = randomSource(random), other = randomSource(random);
  const CodeImage good = randomImage(source, random), stranger = randomImage(other, random);
  struct Case {
    const char *wanted;
    std::function<void(CodeImage &)> change;
  };
  const Case cases[] = {
      {"wanted calibatt_", [&](CodeImage &image) { image.symbol = other.symbol; }},
      {"for sm_80", [&](CodeImage &image) { image.arch = "sm_80"; }},
      {"wanted calibatt_", [&](CodeImage &i) { i.form = Form((unsigned(i.form) + 1) % 4); }},
      {"bytes of shared memory", [&](CodeImage &image) { ++image.dynamicSmem; }},
      {"no section .text.", [&](CodeImage &image) { image.fatbin = stranger.fatbin; }},
      {"bytes of code, but says", [&](CodeImage &image) { ++image.codeBytes; }},
      {"", [&](CodeImage &image) { image.fatbin.resize(70); }},
      {"", [&](CodeImage &image) { image.fatbin.assign(900, 0); }},
      {"its PTX has no \".entry", [&](CodeImage &image) { image.ptx = stranger.ptx; }},
      {"its PTX has no \".target", [&](CodeImage &i) { i.ptx = ".entry " + source.symbol; }},
  };
  for (const Case &test : cases) {
    CodeImage image = good;
    test.change(image);
    REQUIRE(cache.put(source, image));
    std::string problem;
    CHECK(!cache.find(source, &problem));
    CHECK_MESSAGE(problem.find(test.wanted) != std::string::npos, problem);
  }
  // Under another key.
  REQUIRE(cache.put(other, stranger));
  REQUIRE(store.put("kernel", cache.key(source), *store.get("kernel", cache.key(other))));
  std::string problem;
  CHECK(!cache.find(source, &problem));
  CHECK(problem.find("is of another source or toolchain") != std::string::npos);
  REQUIRE(cache.put(source, good));
  checkEqual(*cache.find(source), good);
}

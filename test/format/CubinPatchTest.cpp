// Finding and patching the schedule symbol, on ELF files made here.
#include "runtime/format/CubinPatch.h"
#include "runtime/format/ScheduleLayout.h"
#include "test/format/Samples.h"

#include <doctest/doctest.h>

#include <cstring>
#include <elf.h>

using namespace calibatt;
using namespace calibatt::test;

namespace {

constexpr size_t kSymbolOffset = 48, kSymbolBytes = 256;

/// Where the parts of an elf() are.
constexpr size_t kData = 64, kNames = kData + 512, kSymbols = kNames + 64,
                 kHeaders = kSymbols + 3 * sizeof(Elf64_Sym);

template <typename T> void append(std::vector<uint8_t> &out, const T &value) {
  out.resize(out.size() + sizeof(T));
  std::memcpy(out.data() + out.size() - sizeof(T), &value, sizeof(T));
}

/// A linked ELF64 file with one data section that holds the schedule symbol.
std::vector<uint8_t> elf(Random &random) {
  Elf64_Ehdr header{};
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = ELFCLASS64;
  header.e_ident[EI_DATA] = ELFDATA2LSB;
  header.e_type = ET_EXEC;
  header.e_shoff = kHeaders;
  header.e_shentsize = sizeof(Elf64_Shdr);
  header.e_shnum = 4;
  std::vector<uint8_t> file;
  append(file, header);
  std::vector<uint8_t> data = random.bytes(512);
  file.insert(file.end(), data.begin(), data.end());
  std::string names = std::string("\0other\0", 7) + CALIBATT_SCHEDULE_SYMBOL;
  names.resize(64);
  file.insert(file.end(), names.begin(), names.end());
  append(file, Elf64_Sym{});
  append(file, Elf64_Sym{1, 0, 0, 1, 0, 48});
  append(file, Elf64_Sym{7, 0, 0, 1, kSymbolOffset, kSymbolBytes});
  append(file, Elf64_Shdr{});
  append(file, Elf64_Shdr{.sh_type = SHT_PROGBITS, .sh_offset = kData, .sh_size = 512});
  append(file, Elf64_Shdr{.sh_type = SHT_STRTAB, .sh_offset = kNames, .sh_size = 64});
  append(file, Elf64_Shdr{.sh_type = SHT_SYMTAB,
                          .sh_offset = kSymbols,
                          .sh_size = 3 * sizeof(Elf64_Sym),
                          .sh_link = 2,
                          .sh_entsize = sizeof(Elf64_Sym)});
  return file;
}

/// A fatbin of entries (kind, payload).
std::vector<uint8_t> fatbin(const std::vector<std::pair<uint16_t, std::vector<uint8_t>>> &entries) {
  uint64_t bodyBytes = 0;
  for (const auto &[kind, payload] : entries)
    bodyBytes += 64 + payload.size();
  std::vector<uint8_t> file;
  append(file, uint32_t(0xBA55ED50));
  append(file, uint16_t(1));
  append(file, uint16_t(16));
  append(file, bodyBytes);
  for (const auto &[kind, payload] : entries) {
    append(file, kind);
    append(file, uint16_t(0x101));
    append(file, uint32_t(64));
    append(file, uint64_t(payload.size()));
    file.resize(file.size() + 48);
    file.insert(file.end(), payload.begin(), payload.end());
  }
  return file;
}

std::string capacityError(const std::vector<uint8_t> &file) {
  Result<uint64_t> capacity = symbolCapacity(file);
  return capacity ? std::string() : capacity.message();
}

} // namespace

TEST_CASE("an image lands in the symbol's bytes and nowhere else") {
  Random random;
  INFO("seed ", random.seed);
  std::vector<uint8_t> cubin = elf(random);
  for (const std::vector<uint8_t> &file :
       {cubin, fatbin({{2, cubin}}), fatbin({{1, random.bytes(77)}, {2, cubin}})}) {
    Result<uint64_t> capacity = symbolCapacity(file);
    REQUIRE_MESSAGE(capacity, capacity.message());
    CHECK(*capacity == kSymbolBytes);
    CHECK(findCubin(file)->size() == cubin.size());
    std::vector<uint8_t> image = random.bytes(random.integer(1, kSymbolBytes));
    std::vector<uint8_t> patched = file, wanted = file;
    Status status = patchScheduleSymbol(patched, image);
    REQUIRE_MESSAGE(status, status.message());
    size_t at = size_t(findCubin(file)->data() - file.data()) + kData + kSymbolOffset;
    std::copy(image.begin(), image.end(), wanted.begin() + int64_t(at));
    CHECK(patched == wanted);
    image.resize(kSymbolBytes + 1);
    CHECK(patchScheduleSymbol(patched, image).message() ==
          "cubin: symbol calibatt_schedule has 256 bytes, but the schedule needs 257");
    CHECK(patched == wanted);
  }
}

TEST_CASE("fatbins without exactly one plain cubin are refused") {
  Random random;
  std::vector<uint8_t> cubin = elf(random);
  CHECK(capacityError({}).find("neither a fatbin nor a cubin") != std::string::npos);
  CHECK(capacityError(random.bytes(3)).find("neither") != std::string::npos);
  CHECK(capacityError(fatbin({})).find("has 0 cubins") != std::string::npos);
  CHECK(capacityError(fatbin({{2, cubin}, {2, cubin}})).find("has 2 cubins") != std::string::npos);
  CHECK(capacityError(fatbin({{2, random.bytes(200)}})).find("compressed") != std::string::npos);
  std::vector<uint8_t> lying = fatbin({{2, cubin}});
  for (int i = 0; i < 8; ++i)
    lying[24 + i] = 0xFF;
  CHECK(capacityError(lying).find("does not fit") != std::string::npos);
}

TEST_CASE("a cubin that lies about itself is refused by name") {
  Random random;
  struct Case {
    const char *wanted;
    size_t offset;
    uint64_t value;
    size_t bytes;
  };
  constexpr size_t kSection = sizeof(Elf64_Shdr);
  const Case cases[] = {
      {"not a 64-bit", EI_CLASS, 1, 1},
      {"section headers have 63", offsetof(Elf64_Ehdr, e_shentsize), 63, 2},
      {"do not fit", offsetof(Elf64_Ehdr, e_shoff), ~uint64_t(0) - 10, 8},
      {"do not fit", offsetof(Elf64_Ehdr, e_shnum), 60000, 2},
      {"0 section headers", offsetof(Elf64_Ehdr, e_shnum), 0, 2},
      {"has no symbol", kNames + 7, 'x', 1},
      {"symbol table is outside", kHeaders + 3 * kSection + offsetof(Elf64_Shdr, sh_offset),
       ~uint64_t(0), 8},
      {"symbol table is outside", kHeaders + 3 * kSection + offsetof(Elf64_Shdr, sh_link), 99, 4},
      {"symbol names are outside", kHeaders + 2 * kSection + offsetof(Elf64_Shdr, sh_size),
       uint64_t(1) << 63, 8},
      {"no bytes in the file", kHeaders + kSection + offsetof(Elf64_Shdr, sh_type), SHT_NOBITS, 4},
      {"section of symbol", kHeaders + kSection + offsetof(Elf64_Shdr, sh_size), 1 << 20, 8},
      {"is in section 0", kSymbols + 48 + offsetof(Elf64_Sym, st_shndx), 0, 2},
      {"is in section 65521", kSymbols + 48 + offsetof(Elf64_Sym, st_shndx), SHN_ABS, 2},
      {"outside its section", kSymbols + 48 + offsetof(Elf64_Sym, st_size), 465, 8},
      {"outside its section", kSymbols + 48 + offsetof(Elf64_Sym, st_size), ~uint64_t(0), 8},
      {"outside its section", kSymbols + 48 + offsetof(Elf64_Sym, st_value), ~uint64_t(0), 8},
  };
  for (const Case &test : cases) {
    std::vector<uint8_t> file = elf(random);
    std::memcpy(file.data() + test.offset, &test.value, test.bytes);
    std::string got = capacityError(file);
    INFO(got);
    CHECK_MESSAGE(got.find(test.wanted) != std::string::npos, test.wanted);
  }
}

TEST_CASE("damaged cubins never make the patch leave the file") {
  Random random;
  INFO("seed ", random.seed);
  std::vector<uint8_t> good = fatbin({{2, elf(random)}});
  std::vector<uint8_t> image = random.bytes(64);
  for (size_t size = 0; size < good.size(); ++size) {
    std::vector<uint8_t> cut(good.begin(), good.begin() + int64_t(size));
    CHECK_FALSE(patchScheduleSymbol(cut, image));
  }
  for (int i = 0; i < 20000; ++i) {
    std::vector<uint8_t> damaged = good;
    for (uint64_t flips = random.integer(1, 4); flips > 0; --flips)
      damaged[random.integer(0, damaged.size() - 1)] = uint8_t(random.integer(0, 255));
    std::vector<uint8_t> before = damaged;
    // Whatever it says, it changes no size, and nothing at all when it fails.
    if (!patchScheduleSymbol(damaged, image))
      CHECK(damaged == before);
    CHECK(damaged.size() == before.size());
  }
}

// Finding and patching the schedule symbol of a cubin or fatbin.
#include "runtime/format/CubinPatch.h"
#include "runtime/format/ScheduleLayout.h"
#include "test/fuzz/FuzzTarget.h"

#include <cstring>
#include <elf.h>

using namespace calibatt;

std::vector<std::vector<uint8_t>> test::fuzzSeeds(Random &random) {
  // Header, 128 bytes of data, names, one symbol, three sections.
  constexpr size_t kData = 64, kNames = kData + 128, kSymbols = kNames + 32;
  Elf64_Ehdr header{};
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = ELFCLASS64;
  header.e_ident[EI_DATA] = ELFDATA2LSB;
  header.e_type = ET_EXEC;
  header.e_shoff = kSymbols + sizeof(Elf64_Sym);
  header.e_shentsize = sizeof(Elf64_Shdr);
  header.e_shnum = 3;
  Elf64_Sym symbol{0, 0, 0, 0, 16, 64};
  Elf64_Shdr sections[3] = {{.sh_type = SHT_PROGBITS, .sh_offset = kData, .sh_size = 128},
                            {.sh_type = SHT_STRTAB, .sh_offset = kNames, .sh_size = 32},
                            {.sh_type = SHT_SYMTAB,
                             .sh_offset = kSymbols,
                             .sh_size = sizeof(symbol),
                             .sh_link = 1,
                             .sh_entsize = sizeof(symbol)}};
  // Section 0 means undefined: the data are in section 2's place instead.
  std::swap(sections[0], sections[1]);
  sections[2].sh_link = 0;
  symbol.st_shndx = 1;
  std::vector<uint8_t> elf(kSymbols);
  std::memcpy(elf.data(), &header, sizeof(header));
  std::vector<uint8_t> data = random.bytes(128);
  std::copy(data.begin(), data.end(), elf.begin() + kData);
  std::strcpy(reinterpret_cast<char *>(elf.data()) + kNames, CALIBATT_SCHEDULE_SYMBOL);
  auto append = [](std::vector<uint8_t> &out, const void *part, size_t bytes) {
    const uint8_t *begin = static_cast<const uint8_t *>(part);
    out.insert(out.end(), begin, begin + bytes);
  };
  append(elf, &symbol, sizeof(symbol));
  append(elf, sections, sizeof(sections));

  std::vector<uint8_t> fatbin;
  const uint32_t start[] = {
      0xBA55ED50, 16u << 16 | 1, uint32_t(elf.size() + 16), 0, 2, 16, uint32_t(elf.size()), 0};
  append(fatbin, start, sizeof(start));
  append(fatbin, elf.data(), elf.size());
  expect(bool(symbolCapacity(elf)) && bool(symbolCapacity(fatbin)), "the seeds are well-formed");
  return {elf, fatbin};
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  std::vector<uint8_t> file(data, data + size), patched = file;
  Result<uint64_t> capacity = symbolCapacity(file);
  std::vector<uint8_t> image(capacity && *capacity < 4096 ? size_t(*capacity) : 64, 0x5A);
  if (!patchScheduleSymbol(patched, image))
    test::expect(patched == file, "a failed patch changes nothing");
  test::expect(patched.size() == size, "a patch changes no size");
  return 0;
}

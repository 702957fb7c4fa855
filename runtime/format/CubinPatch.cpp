// Just enough of the fatbin container and of ELF64 to find one symbol.
#include "runtime/format/CubinPatch.h"
#include "runtime/format/ScheduleLayout.h"

#include <elf.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <string_view>

namespace calibatt {
namespace {

constexpr uint32_t kFatbinMagic = 0xBA55ED50;
constexpr uint16_t kFatbinElf = 2;
constexpr size_t kMaxSections = 1 << 20;

/// Start of a fatbin; `size` bytes of entries follow the header.
struct FatbinHeader {
  uint32_t magic;
  uint16_t version, headerBytes;
  uint64_t size;
};

/// Start of an entry; `size` bytes of payload follow its header.
struct FatbinEntry {
  uint16_t kind, version;
  uint32_t headerBytes;
  uint64_t size;
};

/// Where a symbol's bytes are.
struct Place {
  uint64_t offset = 0, bytes = 0;
};

/// Reads T at `offset`; false where it is not inside.
template <typename T> bool read(std::span<const uint8_t> bytes, uint64_t offset, T &value) {
  if (offset > bytes.size() || bytes.size() - offset < sizeof(T))
    return false;
  std::memcpy(&value, bytes.data() + offset, sizeof(T));
  return true;
}

bool isInside(std::span<const uint8_t> bytes, uint64_t offset, uint64_t count) {
  return offset <= bytes.size() && count <= bytes.size() - offset;
}

bool isElf(std::span<const uint8_t> bytes) {
  return bytes.size() >= SELFMAG && std::memcmp(bytes.data(), ELFMAG, SELFMAG) == 0;
}

/// The sections of a cubin.
class Cubin {
public:
  explicit Cubin(std::span<const uint8_t> bytes) : bytes(bytes) {}

  /// Offset of the symbol's bytes from the start of the cubin.
  Result<Place> find(std::string_view symbol) const;
  Result<bool> defines(std::string_view symbol) const;

private:
  Result<std::optional<Elf64_Sym>> symbol(std::string_view name,
                                          const std::vector<Elf64_Shdr> &sections) const;
  Status readSections(std::vector<Elf64_Shdr> &sections) const;
  Result<Place> place(const Elf64_Sym &symbol, std::string_view name, bool linked,
                      const std::vector<Elf64_Shdr> &sections) const;

  std::span<const uint8_t> bytes;
};

Status Cubin::readSections(std::vector<Elf64_Shdr> &sections) const {
  Elf64_Ehdr header;
  if (!isElf(bytes) || !read(bytes, 0, header))
    return Error{fmt::format("cubin: {} bytes are no ELF file", bytes.size())};
  if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB)
    return Error{"cubin: is not a 64-bit little-endian ELF file"};
  if (header.e_shentsize != sizeof(Elf64_Shdr))
    return Error{fmt::format("cubin: section headers have {} bytes, wanted {}", header.e_shentsize,
                             sizeof(Elf64_Shdr))};
  uint64_t count = header.e_shnum;
  Elf64_Shdr first;
  // With 2^16 sections or more the count is in the first section's header.
  if (count == 0 && header.e_shoff != 0 && read(bytes, header.e_shoff, first))
    count = first.sh_size;
  if (count == 0 || count > kMaxSections ||
      !isInside(bytes, header.e_shoff, count * sizeof(Elf64_Shdr)))
    return Error{fmt::format("cubin: {} section headers at byte {} do not fit in {} bytes", count,
                             header.e_shoff, bytes.size())};
  sections.resize(count);
  std::memcpy(sections.data(), bytes.data() + header.e_shoff, count * sizeof(Elf64_Shdr));
  return {};
}

Result<std::optional<Elf64_Sym>> Cubin::symbol(std::string_view name,
                                               const std::vector<Elf64_Shdr> &sections) const {
  for (const Elf64_Shdr &table : sections) {
    if (table.sh_type != SHT_SYMTAB)
      continue;
    if (table.sh_link >= sections.size() || table.sh_entsize != sizeof(Elf64_Sym) ||
        !isInside(bytes, table.sh_offset, table.sh_size))
      return Error{"cubin: the symbol table is outside the file or malformed"};
    const Elf64_Shdr &strings = sections[table.sh_link];
    if (!isInside(bytes, strings.sh_offset, strings.sh_size))
      return Error{"cubin: the symbol names are outside the file"};
    std::string_view names(reinterpret_cast<const char *>(bytes.data()) + strings.sh_offset,
                           strings.sh_size);
    for (uint64_t at = 0; at + sizeof(Elf64_Sym) <= table.sh_size; at += sizeof(Elf64_Sym)) {
      Elf64_Sym symbol;
      std::memcpy(&symbol, bytes.data() + table.sh_offset + at, sizeof(symbol));
      if (symbol.st_name >= names.size())
        continue;
      std::string_view rest = names.substr(symbol.st_name);
      if (rest.substr(0, rest.find('\0')) == name)
        return std::optional(symbol);
    }
  }
  return std::optional<Elf64_Sym>();
}

Result<Place> Cubin::find(std::string_view name) const {
  std::vector<Elf64_Shdr> sections;
  if (Status status = readSections(sections); !status)
    return status.takeError();
  Result<std::optional<Elf64_Sym>> found = symbol(name, sections);
  if (!found)
    return found.takeError();
  if (!*found)
    return Error{fmt::format("cubin: has no symbol {}", name)};
  Elf64_Ehdr header;
  read(bytes, 0, header);
  return place(**found, name, header.e_type != ET_REL, sections);
}

Result<bool> Cubin::defines(std::string_view name) const {
  std::vector<Elf64_Shdr> sections;
  if (Status status = readSections(sections); !status)
    return status.takeError();
  Result<std::optional<Elf64_Sym>> found = symbol(name, sections);
  if (!found)
    return found.takeError();
  return *found && (*found)->st_shndx != SHN_UNDEF;
}

Result<Place> Cubin::place(const Elf64_Sym &symbol, std::string_view name, bool linked,
                           const std::vector<Elf64_Shdr> &sections) const {
  if (symbol.st_shndx == SHN_UNDEF || symbol.st_shndx >= sections.size())
    return Error{fmt::format("cubin: symbol {} is in section {}, but there are {}", name,
                             symbol.st_shndx, sections.size())};
  const Elf64_Shdr &section = sections[symbol.st_shndx];
  if (section.sh_type != SHT_PROGBITS)
    return Error{fmt::format("cubin: symbol {} has no bytes in the file (section type {}, wanted "
                             "{})",
                             name, section.sh_type, SHT_PROGBITS)};
  if (!isInside(bytes, section.sh_offset, section.sh_size))
    return Error{fmt::format("cubin: the section of symbol {} is outside the file", name)};
  // In linked files values are addresses, in others offsets.
  uint64_t base = linked ? section.sh_addr : 0;
  if (symbol.st_value < base || symbol.st_value - base > section.sh_size ||
      symbol.st_size > section.sh_size - (symbol.st_value - base))
    return Error{fmt::format("cubin: symbol {} has {} bytes at {}, outside its section of {} bytes",
                             name, symbol.st_size, symbol.st_value, section.sh_size)};
  return Place{section.sh_offset + symbol.st_value - base, symbol.st_size};
}

/// The symbol's bytes, as an offset into the whole fatbin.
Result<Place> findSymbol(std::span<const uint8_t> fatbinOrCubin) {
  Result<std::span<const uint8_t>> cubin = findCubin(fatbinOrCubin);
  if (!cubin)
    return cubin.takeError();
  Result<Place> place = Cubin(*cubin).find(CALIBATT_SCHEDULE_SYMBOL);
  if (place)
    place->offset += uint64_t(cubin->data() - fatbinOrCubin.data());
  return place;
}

} // namespace

Result<std::span<const uint8_t>> findCubin(std::span<const uint8_t> fatbinOrCubin) {
  if (isElf(fatbinOrCubin))
    return fatbinOrCubin;
  FatbinHeader header;
  if (!read(fatbinOrCubin, 0, header) || header.magic != kFatbinMagic)
    return Error{fmt::format("{} bytes are neither a fatbin nor a cubin", fatbinOrCubin.size())};
  if (header.headerBytes < sizeof(header) ||
      !isInside(fatbinOrCubin, header.headerBytes, header.size))
    return Error{fmt::format("fatbin: a header of {} and entries of {} bytes do not fit in {}",
                             header.headerBytes, header.size, fatbinOrCubin.size())};
  std::span<const uint8_t> entries = fatbinOrCubin.subspan(header.headerBytes, header.size);
  std::span<const uint8_t> found;
  size_t cubins = 0;
  while (!entries.empty()) {
    FatbinEntry entry;
    if (!read(entries, 0, entry) || entry.headerBytes < sizeof(entry) ||
        !isInside(entries, entry.headerBytes, entry.size))
      return Error{
          fmt::format("fatbin: the entry {} bytes before the end does not fit", entries.size())};
    if (entry.kind == kFatbinElf) {
      found = entries.subspan(entry.headerBytes, entry.size);
      ++cubins;
    }
    entries = entries.subspan(entry.headerBytes + entry.size);
  }
  if (cubins != 1)
    return Error{fmt::format("fatbin: has {} cubins, wanted 1", cubins)};
  if (!isElf(found))
    return Error{"fatbin: its cubin is compressed, wanted one that is not"};
  return found;
}

Result<bool> hasSymbol(std::span<const uint8_t> cubin, const std::string &name) {
  return Cubin(cubin).defines(name);
}

Result<uint64_t> symbolCapacity(std::span<const uint8_t> fatbinOrCubin) {
  Result<Place> place = findSymbol(fatbinOrCubin);
  if (!place)
    return place.takeError();
  return place->bytes;
}

Status patchScheduleSymbol(std::vector<uint8_t> &fatbinOrCubin, std::span<const uint8_t> image) {
  Result<Place> place = findSymbol(fatbinOrCubin);
  if (!place)
    return place.takeError();
  if (image.size() > place->bytes)
    return Error{fmt::format("cubin: symbol {} has {} bytes, but the schedule needs {}",
                             CALIBATT_SCHEDULE_SYMBOL, place->bytes, image.size())};
  std::copy(image.begin(), image.end(), fatbinOrCubin.begin() + int64_t(place->offset));
  return {};
}

} // namespace calibatt

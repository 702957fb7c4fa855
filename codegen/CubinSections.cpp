#include "codegen/CubinSections.h"

#include <cstring>
#include <elf.h>
#include <fmt/format.h>

namespace calibatt {

namespace {

/// A header at an offset, copied out: cubins need not be aligned in memory.
template <typename Header>
bool readAt(std::span<const uint8_t> bytes, uint64_t offset, Header &header) {
  if (offset > bytes.size() || bytes.size() - offset < sizeof header)
    return false;
  std::memcpy(&header, bytes.data() + offset, sizeof header);
  return true;
}

/// The NUL-terminated string at an offset, or empty where it has no end.
std::string_view nameAt(std::span<const uint8_t> bytes, uint64_t offset) {
  if (offset >= bytes.size())
    return {};
  const char *begin = reinterpret_cast<const char *>(bytes.data() + offset);
  size_t length = strnlen(begin, bytes.size() - offset);
  return length == bytes.size() - offset ? std::string_view() : std::string_view(begin, length);
}

} // namespace

Result<uint32_t> cubinCodeBytes(std::span<const uint8_t> cubin, const std::string &symbol) {
  Elf64_Ehdr elf;
  if (!readAt(cubin, 0, elf) || std::memcmp(elf.e_ident, ELFMAG, SELFMAG) != 0 ||
      elf.e_ident[EI_CLASS] != ELFCLASS64 || elf.e_shentsize != sizeof(Elf64_Shdr))
    return Error{fmt::format("{}: the cubin is not a 64-bit ELF file", symbol)};
  auto section = [&](uint64_t index, Elf64_Shdr &header) {
    // Below 2^16 entries of 64 bytes: only the table's offset can overflow.
    return elf.e_shoff <= cubin.size() &&
           readAt(cubin, elf.e_shoff + index * sizeof(Elf64_Shdr), header);
  };
  Elf64_Shdr names;
  if (!section(elf.e_shstrndx, names) || names.sh_offset > cubin.size())
    return Error{fmt::format("{}: the cubin has no section names", symbol)};
  const std::string wanted = ".text." + symbol;
  for (uint64_t i = 0; i < elf.e_shnum; ++i) {
    Elf64_Shdr header;
    if (!section(i, header))
      return Error{fmt::format("{}: section {} of the cubin is outside of it", symbol, i)};
    if (nameAt(cubin, names.sh_offset + header.sh_name) != wanted)
      continue;
    if (header.sh_offset > cubin.size() || header.sh_size > cubin.size() - header.sh_offset)
      return Error{fmt::format("{}: {} bytes of code do not fit in a cubin of {} bytes", symbol,
                               uint64_t(header.sh_size), cubin.size())};
    return uint32_t(header.sh_size);
  }
  return Error{fmt::format("{}: the cubin has no section {}", symbol, wanted)};
}

} // namespace calibatt

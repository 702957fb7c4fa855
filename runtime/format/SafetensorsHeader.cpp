// Takes what serde makes of the reference implementation's structs: entries are objects or lists,
// further members are passed over, numbers are whole.
#include "runtime/format/SafetensorsHeader.h"
#include "runtime/format/Json.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>

namespace calibatt {
namespace {

struct DTypeInfo {
  const char *name;
  uint32_t bits;
};

/// In the order of the enumeration.
constexpr DTypeInfo kDTypes[] = {
    {"BOOL", 8},    {"U8", 8},          {"I8", 8},          {"U16", 16},    {"I16", 16},
    {"F16", 16},    {"BF16", 16},       {"U32", 32},        {"I32", 32},    {"F32", 32},
    {"U64", 64},    {"I64", 64},        {"F64", 64},        {"F8_E5M2", 8}, {"F8_E4M3", 8},
    {"F8_E8M0", 8}, {"F8_E5M2FNUZ", 8}, {"F8_E4M3FNUZ", 8}, {"C64", 64},    {"F6_E2M3", 6},
    {"F6_E3M2", 6}, {"F4", 4}};
static_assert(std::size(kDTypes) == size_t(DType::F4) + 1);

/// Of containers in one another, as the reference parser has it.
constexpr int kMaxDepth = 127;

std::optional<DType> dtypeNamed(const std::string &name) {
  for (size_t i = 0; i < std::size(kDTypes); ++i)
    if (name == kDTypes[i].name)
      return DType(i);
  return std::nullopt;
}

/// A member of an entry, which is an object or a list; null where there is none.
const Json *memberOf(const Json &entry, size_t index, const char *name) {
  if (entry.is_array())
    return index < entry.size() ? &entry[index] : nullptr;
  auto found = entry.find(name);
  return found == entry.end() ? nullptr : &*found;
}

std::string shownValue(const Json &value) {
  return value.is_structured() ? value.type_name() : value.dump().substr(0, 40);
}

/// One entry of the header, checked against the `dataBytes` bytes of data.
class EntryParser {
public:
  EntryParser(const std::string &path, const std::string &name)
      : where(fmt::format("{}: tensor \"{}\"", path, shownName(name))) {
    entry.name = name;
  }

  Result<TensorEntry> parse(const Json &json, uint64_t dataBegin, uint64_t dataBytes) {
    if (!json.is_object() && !json.is_array())
      return fail(fmt::format("is {}, wanted an object", json.type_name()));
    if (json.is_array() && json.size() != 3)
      return fail(
          fmt::format("is a list of {}, wanted dtype, shape and data_offsets", json.size()));
    const std::array<const char *, 3> names = {"dtype", "shape", "data_offsets"};
    std::array<const Json *, 3> members;
    for (size_t i = 0; i < names.size(); ++i)
      if (members[i] = memberOf(json, i, names[i]); !members[i])
        return fail(fmt::format("{} is missing", names[i]));
    if (Status status = readType(*members[0]); !status)
      return status.takeError();
    if (Status status = readShape(*members[1]); !status)
      return status.takeError();
    if (Status status = readOffsets(*members[2], dataBytes); !status)
      return status.takeError();
    entry.offset += dataBegin;
    return std::move(entry);
  }

private:
  Error fail(const std::string &what) const { return Error{fmt::format("{}: {}", where, what)}; }

  Status readType(const Json &json) {
    // Serde's long form of a name: {"F32": null}.
    const bool isLong = json.is_object() && json.size() == 1 && json.begin()->is_null();
    if (!isLong && !json.is_string())
      return fail(fmt::format("dtype is {}, wanted a string", json.type_name()));
    const std::string name = isLong ? json.begin().key() : json.get<std::string>();
    std::optional<DType> dtype = dtypeNamed(name);
    if (!dtype)
      return fail(fmt::format("dtype \"{}\" is not known", shownName(name)));
    entry.dtype = *dtype;
    return {};
  }

  Status readShape(const Json &json) {
    if (!json.is_array())
      return fail(fmt::format("shape is {}, wanted a list", json.type_name()));
    for (const Json &size : json) {
      if (!size.is_number_unsigned())
        return fail(fmt::format("shape has {}, wanted whole sizes >= 0", shownValue(size)));
      entry.shape.push_back(size.get<uint64_t>());
    }
    return {};
  }

  Status readOffsets(const Json &json, uint64_t dataBytes) {
    if (!json.is_array() || json.size() != 2 || !json[0].is_number_unsigned() ||
        !json[1].is_number_unsigned())
      return fail("data_offsets are not two whole numbers >= 0");
    const uint64_t begin = json[0].get<uint64_t>(), end = json[1].get<uint64_t>();
    if (begin > end)
      return fail(fmt::format("data_offsets begin at {}, after their end {}", begin, end));
    if (end > dataBytes)
      return fail(fmt::format("data_offsets end at byte {}, but the file has {} bytes of data", end,
                              dataBytes));
    const std::string type = shownType(entry.dtype, entry.shape);
    std::optional<uint64_t> bytes = tensorBytes(entry.dtype, entry.shape);
    if (!bytes)
      return fail(fmt::format("{} overflows 64 bits, or does not end at a byte", type));
    if (end - begin != *bytes)
      return fail(fmt::format("data_offsets [{}, {}] hold {} bytes, but {} needs {}", begin, end,
                              end - begin, type, *bytes));
    entry.offset = begin;
    entry.bytes = *bytes;
    return {};
  }

  std::string where;
  TensorEntry entry;
};

Status readMetadata(const Json &json, const std::string &path, SafetensorsHeader &header) {
  if (json.is_null())
    return {};
  if (!json.is_object())
    return Error{fmt::format("{}: __metadata__ is {}, wanted an object", path, json.type_name())};
  for (const auto &item : json.items()) {
    if (!item.value().is_string())
      return Error{fmt::format("{}: __metadata__ \"{}\" is {}, wanted a string", path,
                               shownName(item.key()), item.value().type_name())};
    header.metadata.emplace(item.key(), item.value().get<std::string>());
  }
  return {};
}

/// Sorts the tensors; they have to lie one after another.
Status checkCover(std::vector<TensorEntry> &tensors, uint64_t dataBegin, uint64_t dataBytes,
                  const std::string &path) {
  // An empty tensor sorts before the one that begins where it does.
  std::sort(tensors.begin(), tensors.end(), [](const TensorEntry &a, const TensorEntry &b) {
    return std::pair(a.offset, a.bytes) < std::pair(b.offset, b.bytes);
  });
  uint64_t covered = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const uint64_t begin = tensors[i].offset - dataBegin;
    if (begin != covered)
      return Error{fmt::format("{}: tensor \"{}\" begins at byte {} of the data, wanted {}: {}",
                               path, shownName(tensors[i].name), begin, covered,
                               begin < covered
                                   ? "it overlaps \"" + shownName(tensors[i - 1].name) + "\""
                                   : "there is a hole before it")};
    covered += tensors[i].bytes;
  }
  if (covered != dataBytes)
    return Error{fmt::format("{}: tensors cover {} bytes, but the file has {} bytes of data", path,
                             covered, dataBytes)};
  return {};
}

} // namespace

uint32_t dtypeBytes(DType dtype) { return kDTypes[size_t(dtype)].bits / 8; }

const char *dtypeName(DType dtype) { return kDTypes[size_t(dtype)].name; }

std::optional<uint64_t> tensorBytes(DType dtype, std::span<const uint64_t> shape) {
  uint64_t elements = 1, bits = 0;
  for (uint64_t size : shape)
    if (__builtin_mul_overflow(elements, size, &elements))
      return std::nullopt;
  if (__builtin_mul_overflow(elements, uint64_t(kDTypes[size_t(dtype)].bits), &bits) || bits % 8)
    return std::nullopt;
  return bits / 8;
}

std::string shownType(DType dtype, const std::vector<uint64_t> &shape) {
  constexpr size_t kShown = 8;
  const std::span<const uint64_t> first =
      std::span(shape).first(std::min<size_t>(shape.size(), kShown));
  return fmt::format("{} [{}{}]", dtypeName(dtype), fmt::join(first, ", "),
                     shape.size() > kShown ? fmt::format(", and {} more", shape.size() - kShown)
                                           : std::string());
}

Result<SafetensorsHeader> SafetensorsHeader::parse(std::string_view text, uint64_t dataBegin,
                                                   uint64_t dataBytes, const std::string &path) {
  Result<Json> json = parseJson(text, path + ": header", kMaxDepth);
  if (!json)
    return json.takeError();
  if (!json->is_object())
    return Error{fmt::format("{}: header is {}, wanted an object", path, json->type_name())};
  SafetensorsHeader header;
  for (const auto &item : json->items()) {
    if (item.key() == "__metadata__") {
      if (Status status = readMetadata(item.value(), path, header); !status)
        return status.takeError();
      continue;
    }
    Result<TensorEntry> entry =
        EntryParser(path, item.key()).parse(item.value(), dataBegin, dataBytes);
    if (!entry)
      return entry.takeError();
    header.tensors.push_back(entry.take());
  }
  if (Status status = checkCover(header.tensors, dataBegin, dataBytes, path); !status)
    return status.takeError();
  return header;
}

} // namespace calibatt

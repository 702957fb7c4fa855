// Validates a safetensors file before anything of it is used.
#include "runtime/format/Json.h"
#include "runtime/format/MappedFile.h"
#include "runtime/format/Safetensors.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <unordered_map>

namespace calibatt {
namespace {

struct DTypeInfo {
  const char *name;
  uint32_t bytes;
};

/// In the order of the enumeration.
constexpr DTypeInfo kDTypes[] = {{"BOOL", 1}, {"U8", 1},   {"I8", 1},  {"U16", 2}, {"I16", 2},
                                 {"F16", 2},  {"BF16", 2}, {"U32", 4}, {"I32", 4}, {"F32", 4},
                                 {"U64", 8},  {"I64", 8},  {"F64", 8}};

constexpr size_t kMaxDimensions = 16;
constexpr size_t kMaxNameBytes = 1024;

bool parseDType(const std::string &name, DType &dtype) {
  for (size_t i = 0; i < std::size(kDTypes); ++i)
    if (name == kDTypes[i].name) {
      dtype = DType(i);
      return true;
    }
  return false;
}

/// One entry of the header, checked against the `dataBytes` bytes of data.
Result<TensorView> parseTensor(const std::string &name, const Json &json, const std::string &path,
                               std::span<const uint8_t> data) {
  const std::string where = fmt::format("{}: tensor \"{}\"", path, name);
  JsonFields fields(json, where);
  TensorView view;
  view.name = name;
  std::string dtype = fields.string("dtype");
  const Json &shape = fields.array("shape");
  const Json &offsets = fields.array("data_offsets");
  if (Status status = fields.status(); !status)
    return status.takeError();
  for (const auto &item : json.items())
    if (item.key() != "dtype" && item.key() != "shape" && item.key() != "data_offsets")
      return Error{fmt::format("{}: unknown field \"{}\"", where, item.key().substr(0, 100))};
  if (!parseDType(dtype, view.dtype))
    return Error{fmt::format("{}: dtype \"{}\" is not known", where, dtype.substr(0, 100))};
  if (shape.size() > kMaxDimensions)
    return Error{fmt::format("{}: has {} dimensions, at most {} are allowed", where, shape.size(),
                             kMaxDimensions)};
  uint64_t bytes = dtypeBytes(view.dtype);
  for (const Json &size : shape) {
    if (!size.is_number_unsigned())
      return Error{fmt::format("{}: shape has {}, wanted sizes >= 0", where, size.dump())};
    view.shape.push_back(size.get<uint64_t>());
    if (__builtin_mul_overflow(bytes, view.shape.back(), &bytes))
      return Error{fmt::format("{}: shape [{}] of {} overflows 64 bits", where,
                               fmt::join(view.shape, ", "), dtype)};
  }
  if (offsets.size() != 2 || !offsets[0].is_number_unsigned() || !offsets[1].is_number_unsigned())
    return Error{fmt::format("{}: data_offsets are not two numbers >= 0", where)};
  uint64_t begin = offsets[0].get<uint64_t>(), end = offsets[1].get<uint64_t>();
  if (begin > end)
    return Error{
        fmt::format("{}: data_offsets begin at {}, after their end {}", where, begin, end)};
  if (end > data.size())
    return Error{fmt::format("{}: data_offsets end at byte {}, but the file has {} bytes of data",
                             where, end, data.size())};
  if (end - begin != bytes)
    return Error{fmt::format("{}: data_offsets [{}, {}] hold {} bytes, but {} [{}] needs {}", where,
                             begin, end, end - begin, dtype, fmt::join(view.shape, ", "), bytes)};
  view.data = data.subspan(begin, end - begin);
  return view;
}

} // namespace

uint32_t dtypeBytes(DType dtype) { return kDTypes[size_t(dtype)].bytes; }

const char *dtypeName(DType dtype) { return kDTypes[size_t(dtype)].name; }

struct SafetensorsReader::Impl {
  MappedFile file;
  std::span<const uint8_t> header;
  std::vector<std::pair<std::string, std::string>> metadata;
  std::vector<TensorView> tensors;
  std::unordered_map<std::string, size_t> byName;

  Status parse();
  Status parseMetadata(const Json &json);
};

Status SafetensorsReader::Impl::parse() {
  const std::string &path = file.path();
  std::span<const uint8_t> bytes = file.bytes();
  if (bytes.size() < 8)
    return Error{
        fmt::format("{}: has {} bytes, too few for a safetensors file", path, bytes.size())};
  uint64_t length = 0;
  for (int i = 0; i < 8; ++i)
    length |= uint64_t(bytes[i]) << (8 * i);
  if (length > kMaxSafetensorsHeader)
    return Error{fmt::format("{}: header length is {}, at most {} is allowed (is it a safetensors "
                             "file?)",
                             path, length, kMaxSafetensorsHeader)};
  if (length > bytes.size() - 8)
    return Error{fmt::format("{}: header length is {}, but only {} bytes follow (truncated?)", path,
                             length, bytes.size() - 8)};
  header = bytes.subspan(8, length);
  std::span<const uint8_t> data = bytes.subspan(8 + length);
  if (header.empty() || header[0] != '{')
    return Error{fmt::format("{}: header does not begin with '{{'", path)};
  // The specification allows spaces after the document, and only those.
  size_t textBytes = header.size();
  while (header[textBytes - 1] == ' ')
    --textBytes;
  if (header[textBytes - 1] != '}')
    return Error{fmt::format("{}: header does not end with '}}' and spaces", path)};
  Result<Json> json =
      parseJson({reinterpret_cast<const char *>(header.data()), textBytes}, path + ": header");
  if (!json)
    return json.takeError();
  for (const auto &item : json->items()) {
    if (item.key() == "__metadata__") {
      if (Status status = parseMetadata(item.value()); !status)
        return status;
      continue;
    }
    if (item.key().size() > kMaxNameBytes)
      return Error{fmt::format("{}: a tensor name has {} bytes, at most {} are allowed", path,
                               item.key().size(), kMaxNameBytes)};
    Result<TensorView> view = parseTensor(item.key(), item.value(), path, data);
    if (!view)
      return view.takeError();
    tensors.push_back(view.take());
  }
  std::sort(tensors.begin(), tensors.end(), [](const TensorView &a, const TensorView &b) {
    // An empty tensor sorts before the one that begins where it does.
    return std::pair(a.data.data(), a.data.size()) < std::pair(b.data.data(), b.data.size());
  });
  uint64_t covered = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    uint64_t begin = uint64_t(tensors[i].data.data() - data.data());
    if (begin != covered)
      return Error{fmt::format("{}: tensor \"{}\" begins at byte {} of the data, wanted {}: {}",
                               path, tensors[i].name, begin, covered,
                               begin < covered ? "it overlaps \"" + tensors[i - 1].name + "\""
                                               : "there is a hole before it")};
    covered += tensors[i].data.size();
    byName.emplace(tensors[i].name, i);
  }
  if (covered != data.size())
    return Error{fmt::format("{}: tensors cover {} bytes, but the file has {} bytes of data", path,
                             covered, data.size())};
  return {};
}

Status SafetensorsReader::Impl::parseMetadata(const Json &json) {
  if (!json.is_object())
    return Error{
        fmt::format("{}: __metadata__ is {}, wanted an object", file.path(), json.type_name())};
  for (const auto &item : json.items()) {
    if (!item.value().is_string())
      return Error{fmt::format("{}: __metadata__ \"{}\" is {}, wanted a string", file.path(),
                               item.key().substr(0, 100), item.value().type_name())};
    metadata.emplace_back(item.key(), item.value().get<std::string>());
  }
  return {};
}

Result<SafetensorsReader> SafetensorsReader::open(const std::string &path) {
  Result<MappedFile> file = MappedFile::open(path);
  if (!file)
    return file.takeError();
  return parse(file.take());
}

Result<SafetensorsReader> SafetensorsReader::openBytes(const std::string &name,
                                                       std::span<const uint8_t> bytes) {
  return parse(MappedFile::borrow(name, bytes));
}

Result<SafetensorsReader> SafetensorsReader::parse(MappedFile file) {
  auto impl = std::make_unique<Impl>();
  impl->file = std::move(file);
  if (Status status = impl->parse(); !status)
    return status.takeError();
  return SafetensorsReader(std::move(impl));
}

SafetensorsReader::SafetensorsReader(std::unique_ptr<Impl> impl) : impl(std::move(impl)) {}
SafetensorsReader::SafetensorsReader(SafetensorsReader &&) noexcept = default;
SafetensorsReader &SafetensorsReader::operator=(SafetensorsReader &&) noexcept = default;
SafetensorsReader::~SafetensorsReader() = default;

const std::string &SafetensorsReader::path() const { return impl->file.path(); }

std::span<const uint8_t> SafetensorsReader::fileBytes() const { return impl->file.bytes(); }

std::span<const uint8_t> SafetensorsReader::headerBytes() const { return impl->header; }

const std::vector<TensorView> &SafetensorsReader::tensors() const { return impl->tensors; }

const std::string *SafetensorsReader::metadata(const std::string &key) const {
  for (const auto &[name, value] : impl->metadata)
    if (name == key)
      return &value;
  return nullptr;
}

const TensorView *SafetensorsReader::find(const std::string &name) const {
  auto found = impl->byName.find(name);
  return found == impl->byName.end() ? nullptr : &impl->tensors[found->second];
}

Result<TensorView> SafetensorsReader::tensor(const std::string &name) const {
  if (const TensorView *view = find(name))
    return *view;
  return Error{fmt::format("{}: tensor \"{}\" is missing", path(), name)};
}

Result<TensorView> SafetensorsReader::tensor(const std::string &name, DType dtype,
                                             const std::vector<uint64_t> &shape) const {
  Result<TensorView> view = tensor(name);
  if (!view)
    return view;
  bool fits = view->dtype == dtype && view->shape.size() == shape.size();
  std::string wanted;
  for (size_t i = 0; i < shape.size(); ++i) {
    fits = fits && (shape[i] == kAnySize || shape[i] == view->shape[i]);
    wanted += (i ? ", " : "") + (shape[i] == kAnySize ? "any" : std::to_string(shape[i]));
  }
  if (!fits)
    return Error{fmt::format("{}: tensor \"{}\" is {} [{}], wanted {} [{}]", path(), name,
                             dtypeName(view->dtype), fmt::join(view->shape, ", "), dtypeName(dtype),
                             wanted)};
  return view;
}

} // namespace calibatt

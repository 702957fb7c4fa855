// Validates a safetensors file before anything of it is used, then reads what is asked for.
#include "runtime/format/InputFile.h"
#include "runtime/format/Json.h"
#include "runtime/format/SafetensorsHeader.h"

#include <fmt/format.h>

#include <array>
#include <mutex>

namespace calibatt {

struct SafetensorsReader::Impl {
  InputFile file;
  std::span<const uint8_t> borrowed; ///< the whole file, where it is somebody's memory
  std::vector<uint8_t> headerText;
  SafetensorsHeader header;
  std::unordered_map<std::string, size_t> byName;

  /// Bytes of the tensors that were loaded, which views point into.
  std::mutex mutex;
  std::unordered_map<uint64_t, std::vector<uint8_t>> loaded; // by offset
  uint64_t loadedBytes = 0;

  Status parse();
  Result<std::span<const uint8_t>> load(const TensorEntry &entry);
};

Status SafetensorsReader::Impl::parse() {
  const std::string &path = file.path();
  std::array<uint8_t, 8> prefix;
  if (file.size() < prefix.size())
    return Error{
        fmt::format("{}: has {} bytes, too few for a safetensors file", path, file.size())};
  if (Status status = file.read(0, prefix); !status)
    return status;
  uint64_t length = 0;
  for (size_t i = 0; i < prefix.size(); ++i)
    length |= uint64_t(prefix[i]) << (8 * i);
  if (length > kMaxSafetensorsHeader)
    return Error{fmt::format("{}: header length is {}, at most {} is allowed (is it a safetensors "
                             "file?)",
                             path, length, kMaxSafetensorsHeader)};
  if (length > file.size() - prefix.size())
    return Error{fmt::format("{}: header length is {}, but only {} bytes follow (truncated?)", path,
                             length, file.size() - prefix.size())};
  Result<std::vector<uint8_t>> text = file.read(prefix.size(), length);
  if (!text)
    return text.takeError();
  headerText = text.take();
  const uint64_t dataBegin = prefix.size() + length;
  Result<SafetensorsHeader> parsed = SafetensorsHeader::parse(
      {reinterpret_cast<const char *>(headerText.data()), headerText.size()}, dataBegin,
      file.size() - dataBegin, path);
  if (!parsed)
    return parsed.takeError();
  header = parsed.take();
  for (size_t i = 0; i < header.tensors.size(); ++i)
    byName.emplace(header.tensors[i].name, i);
  return {};
}

Result<std::span<const uint8_t>> SafetensorsReader::Impl::load(const TensorEntry &entry) {
  if (borrowed.data())
    return borrowed.subspan(entry.offset, entry.bytes);
  if (entry.bytes == 0)
    return std::span<const uint8_t>();
  std::lock_guard lock(mutex);
  auto [place, isNew] = loaded.try_emplace(entry.offset);
  if (!isNew)
    return std::span<const uint8_t>(place->second);
  auto fail = [&](Error error) {
    loaded.erase(place);
    return error;
  };
  if (entry.bytes > kMaxLoadedBytes - loadedBytes)
    return fail(
        Error{fmt::format("{}: tensor \"{}\" has {} bytes, but tables of a file have at "
                          "most {} together",
                          file.path(), shownName(entry.name), entry.bytes, kMaxLoadedBytes)});
  Result<std::vector<uint8_t>> bytes = file.read(entry.offset, entry.bytes);
  if (!bytes)
    return fail(bytes.takeError());
  loadedBytes += entry.bytes;
  place->second = bytes.take();
  return std::span<const uint8_t>(place->second);
}

Result<SafetensorsReader> SafetensorsReader::open(const std::string &path) {
  Result<InputFile> file = InputFile::open(path);
  if (!file)
    return file.takeError();
  auto impl = std::make_shared<Impl>();
  impl->file = file.take();
  if (Status status = impl->parse(); !status)
    return status.takeError();
  return SafetensorsReader(std::move(impl));
}

Result<SafetensorsReader> SafetensorsReader::openBytes(const std::string &name,
                                                       std::span<const uint8_t> bytes) {
  auto impl = std::make_shared<Impl>();
  impl->file = InputFile::borrow(name, bytes);
  impl->borrowed = bytes;
  if (Status status = impl->parse(); !status)
    return status.takeError();
  return SafetensorsReader(std::move(impl));
}

SafetensorsReader::SafetensorsReader(std::shared_ptr<Impl> impl) : impl(std::move(impl)) {}

const std::string &SafetensorsReader::path() const { return impl->file.path(); }

const InputFile &SafetensorsReader::file() const { return impl->file; }

std::span<const uint8_t> SafetensorsReader::headerBytes() const { return impl->headerText; }

const std::vector<TensorEntry> &SafetensorsReader::tensors() const { return impl->header.tensors; }

const std::string *SafetensorsReader::metadata(const std::string &key) const {
  auto found = impl->header.metadata.find(key);
  return found == impl->header.metadata.end() ? nullptr : &found->second;
}

const TensorEntry *SafetensorsReader::find(const std::string &name) const {
  auto found = impl->byName.find(name);
  return found == impl->byName.end() ? nullptr : &tensors()[found->second];
}

Result<TensorEntry> SafetensorsReader::entry(const std::string &name, DType dtype,
                                             const std::vector<uint64_t> &shape) const {
  const TensorEntry *entry = find(name);
  if (!entry)
    return Error{fmt::format("{}: tensor \"{}\" is missing", path(), name)};
  bool fits = entry->dtype == dtype && entry->shape.size() == shape.size();
  std::string wanted;
  for (size_t i = 0; i < shape.size(); ++i) {
    fits = fits && (shape[i] == kAnySize || shape[i] == entry->shape[i]);
    wanted += (i ? ", " : "") + (shape[i] == kAnySize ? "any" : std::to_string(shape[i]));
  }
  if (!fits)
    return Error{fmt::format("{}: tensor \"{}\" is {}, wanted {} [{}]", path(), name,
                             shownType(entry->dtype, entry->shape), dtypeName(dtype), wanted)};
  return *entry;
}

Result<TensorView> SafetensorsReader::load(const TensorEntry &entry) const {
  Result<std::span<const uint8_t>> bytes = impl->load(entry);
  if (!bytes)
    return bytes.takeError();
  return TensorView{entry, *bytes};
}

Result<TensorView> SafetensorsReader::tensor(const std::string &name) const {
  if (const TensorEntry *entry = find(name))
    return load(*entry);
  return Error{fmt::format("{}: tensor \"{}\" is missing", path(), name)};
}

Result<TensorView> SafetensorsReader::tensor(const std::string &name, DType dtype,
                                             const std::vector<uint64_t> &shape) const {
  Result<TensorEntry> entry = this->entry(name, dtype, shape);
  if (!entry)
    return entry.takeError();
  return load(*entry);
}

Status SafetensorsReader::read(const TensorEntry &entry, uint64_t at,
                               std::span<uint8_t> out) const {
  return impl->file.read(entry.offset + at, out);
}

Result<std::vector<uint8_t>> SafetensorsReader::read(const TensorEntry &entry, uint64_t at,
                                                     uint64_t count) const {
  return impl->file.read(entry.offset + at, count);
}

} // namespace calibatt

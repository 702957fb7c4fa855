// Collects tensors in memory or in spool files, then writes header and data in
// one pass: the header comes first and needs every size.
#include "runtime/format/AtomicFile.h"
#include "runtime/format/Json.h"
#include "runtime/format/Safetensors.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <optional>

namespace calibatt {
namespace {

constexpr std::array<uint8_t, kBlobAlignment> kZeros{};

struct PendingTensor {
  std::string name;
  DType dtype = DType::U8;
  std::vector<uint64_t> shape; ///< of a stream: the inner dimensions
  std::vector<uint8_t> bytes;
  std::optional<SpoolFile> spool;
  uint64_t rowBytes = 0; ///< of a stream: bytes of the inner dimensions, not 0

  uint64_t size() const { return spool ? spool->size() : bytes.size(); }
};

} // namespace

struct SafetensorsWriter::Impl {
  explicit Impl(AtomicFile file) : file(std::move(file)) {}

  AtomicFile file;
  Json metadata = Json::object();
  std::vector<PendingTensor> tensors;

  Error error(const std::string &name, const std::string &what) const {
    return Error{fmt::format("{}: tensor \"{}\": {}", file.path(), name, what)};
  }
  Status checkName(const std::string &name) const;
  Result<std::string> header(const std::vector<PendingTensor *> &order) const;
};

Status SafetensorsWriter::Impl::checkName(const std::string &name) const {
  if (name.empty() || name == "__metadata__")
    return error(name, "the name is reserved");
  for (const PendingTensor &tensor : tensors)
    if (tensor.name == name)
      return error(name, "is added twice");
  return {};
}

Result<std::string>
SafetensorsWriter::Impl::header(const std::vector<PendingTensor *> &order) const {
  Json json = Json::object();
  if (!metadata.empty())
    json["__metadata__"] = metadata;
  uint64_t offset = 0;
  for (const PendingTensor *tensor : order) {
    json[tensor->name] = {{"dtype", dtypeName(tensor->dtype)},
                          {"shape", tensor->shape},
                          {"data_offsets", {offset, offset + tensor->size()}}};
    offset += tensor->size();
  }
  Result<std::string> text = writeJson(json, file.path() + ": header");
  if (!text)
    return text;
  while ((8 + text->size()) % kBlobAlignment)
    *text += ' ';
  if (text->size() > kMaxWrittenHeader)
    return Error{fmt::format("{}: the header would have {} bytes, at most {} are written",
                             file.path(), text->size(), kMaxWrittenHeader)};
  return text;
}

Result<SafetensorsWriter> SafetensorsWriter::create(const std::string &path) {
  Result<AtomicFile> file = AtomicFile::create(path);
  if (!file)
    return file.takeError();
  return SafetensorsWriter(std::make_unique<Impl>(file.take()));
}

SafetensorsWriter::SafetensorsWriter(std::unique_ptr<Impl> impl) : impl(std::move(impl)) {}
SafetensorsWriter::SafetensorsWriter(SafetensorsWriter &&) noexcept = default;
SafetensorsWriter &SafetensorsWriter::operator=(SafetensorsWriter &&) noexcept = default;
SafetensorsWriter::~SafetensorsWriter() = default;

void SafetensorsWriter::setMetadata(const std::string &key, const std::string &value) {
  impl->metadata[key] = value;
}

Status SafetensorsWriter::add(const std::string &name, DType dtype, std::vector<uint64_t> shape,
                              std::span<const uint8_t> bytes) {
  if (Status status = impl->checkName(name); !status)
    return status;
  std::optional<uint64_t> wanted = tensorBytes(dtype, shape);
  if (!wanted || *wanted != bytes.size())
    return impl->error(name, fmt::format("has {} bytes, but {} [{}] does not", bytes.size(),
                                         dtypeName(dtype), fmt::join(shape, ", ")));
  impl->tensors.push_back(
      {name, dtype, std::move(shape), std::vector(bytes.begin(), bytes.end()), std::nullopt});
  return {};
}

Result<size_t> SafetensorsWriter::beginStream(const std::string &name, DType dtype,
                                              std::vector<uint64_t> inner) {
  if (Status status = impl->checkName(name); !status)
    return status.takeError();
  std::optional<uint64_t> rowBytes = tensorBytes(dtype, inner);
  if (!rowBytes || *rowBytes == 0)
    return impl->error(
        name, fmt::format("rows of shape [{}] are empty or too large", fmt::join(inner, ", ")));
  Result<SpoolFile> spool = SpoolFile::create(impl->file.path());
  if (!spool)
    return spool.takeError();
  impl->tensors.push_back({name, dtype, std::move(inner), {}, spool.take(), *rowBytes});
  return impl->tensors.size() - 1;
}

Status SafetensorsWriter::append(size_t stream, std::span<const uint8_t> bytes) {
  return impl->tensors[stream].spool->write(bytes);
}

Status SafetensorsWriter::pad(size_t stream) {
  uint64_t over = impl->tensors[stream].size() % kBlobAlignment;
  return over ? append(stream, std::span(kZeros).first(kBlobAlignment - over)) : Status();
}

uint64_t SafetensorsWriter::streamBytes(size_t stream) const {
  return impl->tensors[stream].size();
}

Status SafetensorsWriter::finish(const std::function<Status(uint64_t bytes)> &beforeRename) {
  std::vector<PendingTensor *> order;
  for (PendingTensor &tensor : impl->tensors) {
    if (tensor.spool) {
      if (tensor.size() % tensor.rowBytes)
        return impl->error(tensor.name, fmt::format("has {} bytes, not whole rows of {}",
                                                    tensor.size(), tensor.rowBytes));
      tensor.shape.insert(tensor.shape.begin(), tensor.size() / tensor.rowBytes);
    }
    order.push_back(&tensor);
  }
  std::stable_sort(order.begin(), order.end(), [](const auto *a, const auto *b) {
    auto rank = [](const PendingTensor &tensor) {
      return tensor.size() % kBlobAlignment == 0 ? 0 : 16 - int(dtypeBytes(tensor.dtype));
    };
    return rank(*a) < rank(*b);
  });
  Result<std::string> header = impl->header(order);
  if (!header)
    return header.takeError();
  std::array<uint8_t, 8> length;
  for (int i = 0; i < 8; ++i)
    length[i] = uint8_t(uint64_t(header->size()) >> (8 * i));
  if (Status status = impl->file.write(length); !status)
    return status;
  if (Status status = impl->file.write(*header); !status)
    return status;
  for (PendingTensor *tensor : order) {
    Status status = tensor->spool ? tensor->spool->copyTo(impl->file)
                                  : impl->file.write(std::span<const uint8_t>(tensor->bytes));
    if (!status)
      return status;
  }
  if (beforeRename) {
    if (Status status = impl->file.prepare(); !status)
      return status;
    if (Status status = beforeRename(impl->file.size()); !status)
      return status;
  }
  return impl->file.commit();
}

} // namespace calibatt

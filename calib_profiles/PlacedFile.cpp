// Reserving a file's bytes, writing them in place, renaming it.
#include "calib_profiles/PlacedFile.h"
#include "runtime/format/Json.h"
#include "runtime/format/Quantity.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>

namespace calibatt {

Error systemFailure(const std::string &path, const std::string &what) {
  return Error{fmt::format("{}: {}: {}", path, what, std::strerror(errno))};
}

bool writeAllAt(int fd, uint64_t offset, std::span<const uint8_t> bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::pwrite(fd, bytes.data(), bytes.size(), off_t(offset));
    if (count < 0 && errno == EINTR)
      continue;
    if (count < 0)
      return false;
    bytes = bytes.subspan(size_t(count));
    offset += uint64_t(count);
  }
  return true;
}

Result<FilePlan> FilePlan::create(const std::string &metadataKey, const std::string &document,
                                  const std::vector<PlacedTensor> &tensors,
                                  const std::string &where) {
  FilePlan plan;
  Json json = {{"__metadata__", {{metadataKey, document}}}};
  uint64_t offset = 0;
  for (const PlacedTensor &tensor : tensors) {
    uint64_t end = dtypeBytes(tensor.dtype);
    for (uint64_t size : tensor.shape)
      if (__builtin_mul_overflow(end, size, &end))
        return Error{fmt::format("{}: tensor \"{}\" is too large", where, tensor.name)};
    end += offset;
    json[tensor.name] = {{"dtype", dtypeName(tensor.dtype)},
                         {"shape", tensor.shape},
                         {"data_offsets", {offset, end}}};
    plan.offsets.push_back(offset);
    offset = end;
  }
  Result<std::string> text = writeJson(json, where);
  if (!text)
    return text.takeError();
  while ((8 + text->size()) % kBlobAlignment)
    *text += ' ';
  if (text->size() > kMaxWrittenHeader)
    return Error{fmt::format("{}: the header would have {} bytes, at most {} are written", where,
                             text->size(), kMaxWrittenHeader)};
  for (int i = 0; i < 8; ++i)
    plan.head.push_back(uint8_t(uint64_t(text->size()) >> (8 * i)));
  plan.head.insert(plan.head.end(), text->begin(), text->end());
  for (uint64_t &start : plan.offsets)
    start += plan.head.size();
  plan.size = plan.head.size() + offset;
  return plan;
}

Result<PlacedFile> PlacedFile::create(const std::string &path, const FilePlan &plan) {
  Result<TemporaryFile> temporary = TemporaryFile::create(path);
  if (!temporary)
    return temporary.takeError();
  PlacedFile placed(temporary.take());
  // Reserved at once, so that a disk that is too small shows before hours of work. File systems
  // that cannot reserve have a hole instead.
  const int fd = placed.file.descriptor();
  int reserved = -1;
  do
    reserved = ::fallocate(fd, 0, 0, off_t(plan.size));
  while (reserved != 0 && errno == EINTR);
  if (reserved != 0 && (errno != EOPNOTSUPP || ::ftruncate(fd, off_t(plan.size)) != 0))
    return systemFailure(path, fmt::format("cannot reserve {}", byteQuantity(plan.size)));
  if (Status s = placed.writeAt(0, plan.head); !s)
    return s.takeError();
  return placed;
}

Status PlacedFile::writeAt(uint64_t offset, std::span<const uint8_t> bytes) {
  if (!writeAllAt(file.descriptor(), offset, bytes))
    return file.failure("cannot write");
  return {};
}

Status PlacedFile::commit() {
  if (Status s = file.sync(); !s)
    return s;
  if (Status s = file.replace(); !s)
    return s;
  syncFolder(folderOf(file.path()));
  return {};
}

} // namespace calibatt

// Reserving a file's bytes, writing them in place, renaming it.
#include "calib_profiles/PlacedFile.h"
#include "runtime/format/Json.h"
#include "runtime/format/Quantity.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <unistd.h>
#include <utility>

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

void syncFolderOf(const std::string &path) {
  std::filesystem::path folder = std::filesystem::path(path).parent_path();
  const int fd = ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0)
    return;
  ::fsync(fd);
  ::close(fd);
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

Result<PlacedFile> PlacedFile::create(const std::string &temporary, const std::string &path,
                                      const FilePlan &plan) {
  std::error_code ignored;
  if (std::filesystem::exists(path, ignored) && !std::filesystem::is_regular_file(path, ignored))
    return Error{fmt::format("{}: is not a regular file that can be replaced", path)};
  PlacedFile file;
  file.finalPath = path;
  file.fd = ::open(temporary.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (file.fd < 0)
    return systemFailure(path, "cannot write");
  file.temporaryPath = temporary;
  // Reserved at once, so that a disk that is too small shows before hours of work. File systems
  // that cannot reserve have a hole instead.
  int reserved = -1;
  do
    reserved = ::fallocate(file.fd, 0, 0, off_t(plan.size));
  while (reserved != 0 && errno == EINTR);
  if (reserved != 0 && (errno != EOPNOTSUPP || ::ftruncate(file.fd, off_t(plan.size)) != 0))
    return systemFailure(path, fmt::format("cannot reserve {}", byteQuantity(plan.size)));
  if (Status s = file.writeAt(0, plan.head); !s)
    return s.takeError();
  return file;
}

PlacedFile::PlacedFile(PlacedFile &&other) noexcept { *this = std::move(other); }

PlacedFile &PlacedFile::operator=(PlacedFile &&other) noexcept {
  if (this != &other) {
    discard();
    finalPath = std::move(other.finalPath);
    temporaryPath = std::exchange(other.temporaryPath, {});
    fd = std::exchange(other.fd, -1);
  }
  return *this;
}

PlacedFile::~PlacedFile() { discard(); }

void PlacedFile::discard() {
  if (fd >= 0)
    ::close(fd);
  fd = -1;
  if (!temporaryPath.empty())
    ::unlink(temporaryPath.c_str());
  temporaryPath.clear();
}

Status PlacedFile::writeAt(uint64_t offset, std::span<const uint8_t> bytes) {
  if (!writeAllAt(fd, offset, bytes))
    return systemFailure(finalPath, "cannot write");
  return {};
}

Status PlacedFile::commit() {
  if (::fsync(fd) != 0)
    return systemFailure(finalPath, "cannot sync to disk");
  // Some file systems report a full disk only here.
  if (::close(std::exchange(fd, -1)) != 0)
    return systemFailure(finalPath, "cannot close");
  if (::rename(temporaryPath.c_str(), finalPath.c_str()) != 0)
    return systemFailure(finalPath, "cannot rename the finished temporary to it");
  temporaryPath.clear();
  syncFolderOf(finalPath);
  return {};
}

} // namespace calibatt

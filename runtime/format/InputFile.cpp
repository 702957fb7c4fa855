// pread with its short counts checked, and the errors of open, fstat and pread in words.
#include "runtime/format/InputFile.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace calibatt {

Result<InputFile> InputFile::open(const std::string &path) {
  InputFile file;
  file.filePath = path;
  file.fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file.fd < 0)
    return Error{fmt::format("{}: cannot open: {}", path, std::strerror(errno))};
  struct stat info{};
  if (::fstat(file.fd, &info) != 0)
    return Error{fmt::format("{}: cannot read its size: {}", path, std::strerror(errno))};
  if (!S_ISREG(info.st_mode))
    return Error{fmt::format("{}: is {}, not a regular file", path,
                             S_ISDIR(info.st_mode) ? "a directory" : "a device, pipe or socket")};
  file.bytes = uint64_t(info.st_size);
  return file;
}

InputFile InputFile::borrow(std::string name, std::span<const uint8_t> bytes) {
  InputFile file;
  file.filePath = std::move(name);
  file.borrowed = bytes.data();
  file.bytes = bytes.size();
  return file;
}

InputFile::InputFile(InputFile &&other) noexcept { *this = std::move(other); }

InputFile &InputFile::operator=(InputFile &&other) noexcept {
  if (this != &other) {
    close();
    filePath = std::move(other.filePath);
    bytes = std::exchange(other.bytes, 0);
    fd = std::exchange(other.fd, -1);
    borrowed = std::exchange(other.borrowed, nullptr);
  }
  return *this;
}

InputFile::~InputFile() { close(); }

void InputFile::close() {
  if (fd >= 0)
    ::close(fd);
  fd = -1;
}

Status InputFile::read(uint64_t offset, std::span<uint8_t> out) const {
  if (offset > bytes || out.size() > bytes - offset)
    return Error{fmt::format("{}: {} bytes at byte {} asked for, but it has {}", filePath,
                             out.size(), offset, bytes)};
  if (borrowed) {
    if (!out.empty())
      std::memcpy(out.data(), borrowed + offset, out.size());
    return {};
  }
  while (!out.empty()) {
    const ssize_t count = ::pread(fd, out.data(), out.size(), off_t(offset));
    if (count < 0 && errno == EINTR)
      continue;
    if (count < 0)
      return Error{fmt::format("{}: cannot read {} bytes at byte {}: {}", filePath, out.size(),
                               offset, std::strerror(errno))};
    struct stat now{};
    if (count == 0 && ::fstat(fd, &now) == 0)
      offset = uint64_t(now.st_size);
    if (count == 0)
      return Error{fmt::format("{}: ends at byte {}, but had {} bytes when it was opened: somebody "
                               "truncated it",
                               filePath, offset, bytes)};
    out = out.subspan(size_t(count));
    offset += uint64_t(count);
  }
  return {};
}

Result<std::vector<uint8_t>> InputFile::read(uint64_t offset, uint64_t count) const {
  if (offset > bytes || count > bytes - offset) // before the memory is taken
    return read(offset, std::span<uint8_t>(static_cast<uint8_t *>(nullptr), count)).takeError();
  std::vector<uint8_t> out(count);
  if (Status status = read(offset, std::span(out)); !status)
    return status.takeError();
  return out;
}

Status InputFile::readAll(const std::function<void(std::span<const uint8_t>)> &take) const {
  constexpr uint64_t kPiece = 1 << 20;
  std::vector<uint8_t> piece(size_t(std::min(bytes, kPiece)));
  for (uint64_t at = 0; at < bytes; at += piece.size()) {
    piece.resize(size_t(std::min<uint64_t>(piece.size(), bytes - at)));
    if (Status status = read(at, std::span(piece)); !status)
      return status;
    take(piece);
  }
  return {};
}

Result<Sha256Digest> InputFile::sha256() const {
  Sha256 hash;
  if (Status status = readAll([&](std::span<const uint8_t> piece) { hash.update(piece); }); !status)
    return status.takeError();
  return hash.finish();
}

} // namespace calibatt

// mmap with the errors of open, fstat and mmap in words.
#include "runtime/format/MappedFile.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace calibatt {

Result<MappedFile> MappedFile::open(const std::string &path) {
  auto fail = [&](const char *what) {
    return Error{fmt::format("{}: {}: {}", path, what, std::strerror(errno))};
  };
  int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0)
    return fail("cannot open");
  struct stat info{};
  if (::fstat(fd, &info) != 0) {
    Error error = fail("cannot read its size");
    ::close(fd);
    return error;
  }
  if (!S_ISREG(info.st_mode)) {
    ::close(fd);
    return Error{fmt::format("{}: is {}, not a regular file", path,
                             S_ISDIR(info.st_mode) ? "a directory" : "a device, pipe or socket")};
  }
  MappedFile file;
  file.filePath = path;
  if (info.st_size > 0) {
    void *address = ::mmap(nullptr, size_t(info.st_size), PROT_READ, MAP_PRIVATE, fd, 0);
    if (address == MAP_FAILED) {
      Error error = fail("cannot map");
      ::close(fd);
      return error;
    }
    file.data = static_cast<const uint8_t *>(address);
    file.size = size_t(info.st_size);
  }
  ::close(fd);
  return file;
}

MappedFile MappedFile::borrow(std::string name, std::span<const uint8_t> bytes) {
  MappedFile file;
  file.filePath = std::move(name);
  file.data = bytes.data();
  file.size = bytes.size();
  file.borrowed = true;
  return file;
}

MappedFile::MappedFile(MappedFile &&other) noexcept { *this = std::move(other); }

MappedFile &MappedFile::operator=(MappedFile &&other) noexcept {
  if (this != &other) {
    unmap();
    filePath = std::move(other.filePath);
    data = std::exchange(other.data, nullptr);
    size = std::exchange(other.size, 0);
    borrowed = other.borrowed;
  }
  return *this;
}

MappedFile::~MappedFile() { unmap(); }

void MappedFile::unmap() {
  if (data && !borrowed)
    ::munmap(const_cast<uint8_t *>(data), size);
  data = nullptr;
  size = 0;
}

} // namespace calibatt

// Files too large for memory that are written in any order: every tensor has its
// place before the first byte is there.
#pragma once

#include "runtime/format/Result.h"
#include "runtime/format/Safetensors.h"
#include "runtime/format/TemporaryFile.h"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace calibatt {

/// A tensor of a file to come.
struct PlacedTensor {
  std::string name;
  DType dtype = DType::U8;
  std::vector<uint64_t> shape;
};

/// A safetensors file's header and where its tensors are. Tensors lie one after
/// another as given; those of larger elements have to come first.
struct FilePlan {
  std::vector<uint8_t> head;     ///< length, JSON, padding: up to the first tensor
  std::vector<uint64_t> offsets; ///< [tensors] in the file
  uint64_t size = 0;

  static Result<FilePlan> create(const std::string &metadataKey, const std::string &document,
                                 const std::vector<PlacedTensor> &tensors,
                                 const std::string &where);
};

/// A file that has its name when it is whole, with all its bytes reserved, zero until written.
/// Destroyed without commit(), nothing stays behind (see TemporaryFile for a process that is
/// killed). Every error names the final path.
class PlacedFile {
public:
  /// Fails where the disk has not enough room.
  static Result<PlacedFile> create(const std::string &path, const FilePlan &plan);

  /// Safe from several threads.
  Status writeAt(uint64_t offset, std::span<const uint8_t> bytes);
  /// Syncs, renames, syncs the folder. Call once, after the last write.
  Status commit();

private:
  explicit PlacedFile(TemporaryFile file) : file(std::move(file)) {}

  TemporaryFile file;
};

/// The bytes of a vector or span of numbers.
template <typename T> std::span<const uint8_t> bytesOf(const T &values) {
  return {reinterpret_cast<const uint8_t *>(std::data(values)),
          std::size(values) * sizeof(*std::data(values))};
}

/// pwrite() of everything; false with errno set where that fails.
bool writeAllAt(int fd, uint64_t offset, std::span<const uint8_t> bytes);
/// "PATH: WHAT: reason", with the reason of errno.
Error systemFailure(const std::string &path, const std::string &what);

} // namespace calibatt

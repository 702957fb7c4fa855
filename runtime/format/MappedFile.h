// A whole file, mapped read-only: how every reader of this folder sees its bytes.
#pragma once

#include "runtime/format/Result.h"

#include <cstdint>
#include <span>
#include <string>

namespace calibatt {

/// Owns the mapping (not what is borrowed); the bytes stay valid until it is destroyed, also when
/// the file is renamed or unlinked meanwhile. Truncating a mapped file is not guarded against.
class MappedFile {
public:
  /// Fails where the file is missing, unreadable or not a regular file. An
  /// empty file gives no bytes.
  static Result<MappedFile> open(const std::string &path);
  /// Bytes that are somebody else's and have to outlive this, under a name for messages.
  static MappedFile borrow(std::string name, std::span<const uint8_t> bytes);

  MappedFile() = default;
  MappedFile(MappedFile &&other) noexcept;
  MappedFile &operator=(MappedFile &&other) noexcept;
  ~MappedFile();

  const std::string &path() const { return filePath; }
  std::span<const uint8_t> bytes() const { return {data, size}; }

private:
  void unmap();

  std::string filePath;
  const uint8_t *data = nullptr;
  size_t size = 0;
  bool borrowed = false;
};

} // namespace calibatt

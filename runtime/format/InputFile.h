// A file that is read, never mapped: how every reader of this folder sees its bytes.
#pragma once

#include "runtime/format/Hash.h"
#include "runtime/format/Result.h"

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace calibatt {

/// An open regular file of the size it had when it was opened, also when it is renamed, replaced
/// or unlinked meanwhile. Whoever truncates it makes reads fail in words: touching a mapping would
/// end the program with SIGBUS, which a library cannot catch for its host. Safe from several
/// threads.
class InputFile {
public:
  /// Fails where the file is missing, unreadable or not a regular file; never waits for a pipe.
  static Result<InputFile> open(const std::string &path);
  /// Bytes that are somebody else's and have to outlive this, under a name for messages.
  static InputFile borrow(std::string name, std::span<const uint8_t> bytes);

  InputFile() = default;
  InputFile(InputFile &&other) noexcept;
  InputFile &operator=(InputFile &&other) noexcept;
  ~InputFile();

  const std::string &path() const { return filePath; }
  uint64_t size() const { return bytes; }
  /// Fills `out` from byte `offset` on; the range is inside size().
  Status read(uint64_t offset, std::span<uint8_t> out) const;
  Result<std::vector<uint8_t>> read(uint64_t offset, uint64_t count) const;
  /// Hands all bytes to `take`, a piece at a time.
  Status readAll(const std::function<void(std::span<const uint8_t>)> &take) const;
  Result<Sha256Digest> sha256() const;

private:
  void close();

  std::string filePath;
  uint64_t bytes = 0;
  int fd = -1;
  const uint8_t *borrowed = nullptr;
};

} // namespace calibatt

// The safetensors container: an 8-byte little-endian header length, a JSON
// header, raw tensors. Both of our file formats are one.
#pragma once

#include "runtime/format/Result.h"

#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace calibatt {

class InputFile;

/// Element types, named as in the file: all that the format has. We write and use those up to F64;
/// tensors of the others are passed over.
enum class DType : uint8_t {
  BOOL,
  U8,
  I8,
  U16,
  I16,
  F16,
  BF16,
  U32,
  I32,
  F32,
  U64,
  I64,
  F64,
  F8_E5M2,
  F8_E4M3,
  F8_E8M0,
  F8_E5M2FNUZ,
  F8_E4M3FNUZ,
  C64,
  F6_E2M3,
  F6_E3M2,
  F4
};
constexpr DType kLastUsedDType = DType::F64;

/// Bytes of one element; 0 where an element is less than a byte.
uint32_t dtypeBytes(DType dtype);
/// "BF16" and so on.
const char *dtypeName(DType dtype);
/// Bytes of a tensor; nothing where they overflow or the last one is not filled.
std::optional<uint64_t> tensorBytes(DType dtype, std::span<const uint64_t> shape);

/// A header above this is refused: what is parsed takes many times its size. (The reference reader
/// takes 100 MB.)
constexpr uint64_t kMaxSafetensorsHeader = 16u << 20;
/// A header above this is not written.
constexpr uint64_t kMaxWrittenHeader = 1u << 20;
/// Where data start, and what blobs inside a tensor are padded to.
constexpr uint64_t kBlobAlignment = 64;
/// The tables of one file that are read into memory: a sparse file may have any size.
constexpr uint64_t kMaxLoadedBytes = 1u << 30;

/// Where a tensor of an open file is: at any byte, aligned or not.
struct TensorEntry {
  std::string name;
  DType dtype = DType::U8;
  std::vector<uint64_t> shape;    ///< row-major; empty is a scalar
  uint64_t offset = 0, bytes = 0; ///< in the file
};

/// A tensor in memory. `data` may be unaligned: use load() or copy(), not a cast.
struct TensorView : TensorEntry {
  std::span<const uint8_t> data;

  /// Of the types that we use.
  uint64_t elements() const { return data.size() / dtypeBytes(dtype); }
  /// Element i as T, which has the size of the element type; i < elements().
  template <typename T> T load(uint64_t i) const {
    T value;
    std::memcpy(&value, data.data() + i * sizeof(T), sizeof(T));
    return value;
  }
  /// All elements; sizeof(T) is the size of the element type.
  template <typename T> std::vector<T> copy() const {
    std::vector<T> values(data.size() / sizeof(T));
    if (!values.empty())
      std::memcpy(values.data(), data.data(), values.size() * sizeof(T));
    return values;
  }
};

/// An open file, fully validated: every tensor inside the file, sizes as shape and type say, no
/// overlaps, no holes. Takes what the reference implementation (0.8) takes, but for a key that is
/// twice in one object, which the format forbids, and for headers above kMaxSafetensorsHeader.
/// Bytes are read when they are asked for, so that a file which somebody truncates is an error.
/// Safe from several threads; copies are the same open file.
class SafetensorsReader {
public:
  static Result<SafetensorsReader> open(const std::string &path);
  /// The same of bytes in memory, which have to outlive the reader; path() is then `name`.
  static Result<SafetensorsReader> openBytes(const std::string &name,
                                             std::span<const uint8_t> bytes);

  const std::string &path() const;
  /// The whole file, for sizes and digests.
  const InputFile &file() const;
  /// The JSON header as stored, padding included.
  std::span<const uint8_t> headerBytes() const;
  /// Value of a `__metadata__` key, or null.
  const std::string *metadata(const std::string &key) const;
  /// In file order (by offset).
  const std::vector<TensorEntry> &tensors() const;
  /// Null where there is none of that name.
  const TensorEntry *find(const std::string &name) const;
  /// Fails, naming the file, where there is none of that name, element type and shape; a dimension
  /// of kAnySize is free.
  Result<TensorEntry> entry(const std::string &name, DType dtype,
                            const std::vector<uint64_t> &shape) const;
  static constexpr uint64_t kAnySize = ~uint64_t(0);

  /// Tables are read as a whole, once; their bytes stay in memory as long as the file is open.
  Result<TensorView> load(const TensorEntry &entry) const;
  Result<TensorView> tensor(const std::string &name) const;
  Result<TensorView> tensor(const std::string &name, DType dtype,
                            const std::vector<uint64_t> &shape) const;
  /// Bytes of a larger one, from byte `at` of it on; the range is inside it.
  Status read(const TensorEntry &entry, uint64_t at, std::span<uint8_t> out) const;
  Result<std::vector<uint8_t>> read(const TensorEntry &entry, uint64_t at, uint64_t count) const;

private:
  struct Impl;
  explicit SafetensorsReader(std::shared_ptr<Impl>);
  std::shared_ptr<Impl> impl;
};

/// Writes a file through a temporary renamed by finish(); destroyed without
/// finish() nothing stays behind. Tensors of a multiple of 64 bytes come first, in
/// the order they were added, then the others by falling element size, so that all are aligned.
class SafetensorsWriter {
public:
  /// Opens the temporary, so that an unwritable path fails before any work.
  static Result<SafetensorsWriter> create(const std::string &path);
  SafetensorsWriter(SafetensorsWriter &&) noexcept;
  SafetensorsWriter &operator=(SafetensorsWriter &&) noexcept;
  ~SafetensorsWriter();

  void setMetadata(const std::string &key, const std::string &value);

  /// A whole tensor; the bytes are copied (kept in memory until finish()).
  Status add(const std::string &name, DType dtype, std::vector<uint64_t> shape,
             std::span<const uint8_t> bytes);
  /// The same from a typed vector.
  template <typename T>
  Status add(const std::string &name, DType dtype, std::vector<uint64_t> shape,
             const std::vector<T> &values) {
    return add(
        name, dtype, std::move(shape),
        std::span(reinterpret_cast<const uint8_t *>(values.data()), values.size() * sizeof(T)));
  }

  /// A tensor of unknown length, spooled to disk beside the file: its shape is
  /// [n, inner...] with n found at finish(). Several streams may be open at once.
  /// Returns the stream's number for append().
  Result<size_t> beginStream(const std::string &name, DType dtype,
                             std::vector<uint64_t> inner = {});
  /// Appends whole elements or parts of them; at finish() the bytes must make whole rows.
  Status append(size_t stream, std::span<const uint8_t> bytes);
  /// Zero-pads the stream to a multiple of 64 bytes (for pools of blobs).
  Status pad(size_t stream);
  /// Bytes appended so far.
  uint64_t streamBytes(size_t stream) const;

  /// Writes header and tensors, syncs, renames. `beforeRename` is told the file's size when it is
  /// on the disk; where it fails, the file does not appear.
  Status finish(const std::function<Status(uint64_t bytes)> &beforeRename = {});

private:
  struct Impl;
  explicit SafetensorsWriter(std::unique_ptr<Impl>);
  std::unique_ptr<Impl> impl;
};

} // namespace calibatt

// The safetensors container: an 8-byte little-endian header length, a JSON
// header, raw tensors. Both of our file formats are one.
#pragma once

#include "runtime/format/Result.h"

#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace calibatt {

class MappedFile;

/// Element types, named as in the file.
enum class DType : uint8_t { BOOL, U8, I8, U16, I16, F16, BF16, U32, I32, F32, U64, I64, F64 };

/// Bytes of one element.
uint32_t dtypeBytes(DType dtype);
/// "BF16" and so on.
const char *dtypeName(DType dtype);

/// A header above this is refused.
constexpr uint64_t kMaxSafetensorsHeader = 16u << 20;
/// A header above this is not written.
constexpr uint64_t kMaxWrittenHeader = 1u << 20;
/// Where data start, and what blobs inside a tensor are padded to.
constexpr uint64_t kBlobAlignment = 64;

/// One tensor of an open file. `data` may be unaligned in files of others: use
/// load() or copy(), not a cast.
struct TensorView {
  std::string name;
  DType dtype = DType::U8;
  std::vector<uint64_t> shape; ///< row-major; empty is a scalar
  std::span<const uint8_t> data;

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

/// An open file, memory-mapped and fully validated: every tensor inside the
/// file, sizes as shape and type say, no overlaps, no holes, no duplicate keys.
/// Immutable, safe from several threads.
class SafetensorsReader {
public:
  static Result<SafetensorsReader> open(const std::string &path);
  /// The same of bytes in memory, which have to outlive the reader; path() is then `name`.
  static Result<SafetensorsReader> openBytes(const std::string &name,
                                             std::span<const uint8_t> bytes);
  SafetensorsReader(SafetensorsReader &&) noexcept;
  SafetensorsReader &operator=(SafetensorsReader &&) noexcept;
  ~SafetensorsReader();

  const std::string &path() const;
  /// The whole file, for digests.
  std::span<const uint8_t> fileBytes() const;
  /// The JSON header as stored, padding included.
  std::span<const uint8_t> headerBytes() const;
  /// Value of a `__metadata__` key, or null.
  const std::string *metadata(const std::string &key) const;
  /// In file order (by offset).
  const std::vector<TensorView> &tensors() const;
  /// Null where there is none of that name.
  const TensorView *find(const std::string &name) const;
  /// Fails, naming the file, where there is none of that name.
  Result<TensorView> tensor(const std::string &name) const;
  /// The same, and of that element type and shape; a dimension of kAnySize is free.
  Result<TensorView> tensor(const std::string &name, DType dtype,
                            const std::vector<uint64_t> &shape) const;
  static constexpr uint64_t kAnySize = ~uint64_t(0);

private:
  struct Impl;
  static Result<SafetensorsReader> parse(MappedFile file);
  explicit SafetensorsReader(std::unique_ptr<Impl>);
  std::unique_ptr<Impl> impl;
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

  /// Writes header and tensors, syncs, renames.
  Status finish();

private:
  struct Impl;
  explicit SafetensorsWriter(std::unique_ptr<Impl>);
  std::unique_ptr<Impl> impl;
};

} // namespace calibatt

// Many byte strings in one tensor: grouped into zstd chunks that are hashed and
// decoded on their own. A package keeps its code, schedules, orders and texts so.
//
//   <name>/pool    U8  [bytes]      chunks, each zero-padded to 64
//   <name>/chunks  U64 [chunks, 2]  bytes of the frame, decoded bytes
//   <name>/hash    U8  [chunks, 16 or 32]  of the frame and its padding
//   <name>/items   U64 [items, 3]   chunk, offset in the decoded chunk, bytes
#pragma once

#include "runtime/format/Hash.h"
#include "runtime/format/Result.h"
#include "runtime/format/Safetensors.h"

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace calibatt {

/// Which digest guards the chunks.
enum class ChunkHash { Xxh128, Sha256 };

/// An item that was compressed on its own, in whichever thread.
struct CompressedItem {
  std::vector<uint8_t> frame; ///< zero-padded
  uint64_t frameBytes = 0, rawBytes = 0;
};
constexpr int kDefaultChunkLevel = 12;
Result<CompressedItem> compressItem(std::span<const uint8_t> raw, int level = kDefaultChunkLevel);

/// A chunk is closed before it grows beyond this: reading one item should not
/// decode much more than it, yet similar neighbours should share a frame.
constexpr uint64_t kChunkBytes = 256 << 10;

/// Items are deduplicated by content. Chunks are compressed as they fill up, so
/// that a big package is never held decoded.
class ChunkPoolWriter {
public:
  ChunkPoolWriter(std::string name, ChunkHash hash) : name(std::move(name)), hash(hash) {}
  /// Larger items are an error. Unlimited until it is called, before the first item.
  void limitItems(uint64_t bytes) { maxItemBytes = bytes; }

  /// Returns the item's number: the same for the same bytes.
  uint32_t add(std::span<const uint8_t> bytes);
  uint32_t add(const std::string &text);
  /// A chunk of its own; not deduplicated.
  uint32_t append(CompressedItem item);
  /// Bytes of the chunks so far.
  uint64_t storedBytes() const { return stored; }
  uint32_t count() const { return uint32_t(items.size()); }
  /// What failed in an add().
  const Status &status() const { return outcome; }

  struct Table {
    std::string name;
    DType dtype;
    std::vector<uint64_t> shape;
    std::vector<uint8_t> bytes;
  };
  /// Streams the pool into `out`; appends the tables to `tables`, the pool
  /// without its bytes among them.
  Status writePool(SafetensorsWriter &out, std::vector<Table> &tables) const;

private:
  struct Item {
    uint64_t chunk, offset, bytes;
  };
  void closeChunk();

  void checkItem(uint64_t bytes);

  std::string name;
  ChunkHash hash;
  uint64_t maxItemBytes = UINT64_MAX;
  std::vector<CompressedItem> chunks;
  uint64_t stored = 0;
  std::vector<uint8_t> pending; ///< decoded bytes of the chunk being filled
  std::vector<Item> items;
  std::map<Sha256Digest, uint32_t> known;
  Status outcome;
};

/// Reads chunks of an open file when they are asked for. Safe from several threads.
class ChunkPoolReader {
public:
  /// Checks every bound; the chunks' hashes are checked when they are read. What a chunk claims to
  /// decode to is what its items need, one after another: at most kChunkBytes, or one item of at
  /// most `maxItemBytes`.
  static Result<ChunkPoolReader> open(const SafetensorsReader &file, const std::string &name,
                                      ChunkHash hash, uint64_t maxItemBytes);
  /// For items that are read once, or kept by who reads them.
  void keepNothing() { cache = nullptr; }

  uint32_t count() const { return uint32_t(items.size() / 3); }
  uint64_t itemBytes(uint32_t item) const { return items[3 * size_t(item) + 2]; }
  uint64_t chunkCount() const { return chunks.size() / 2; }
  /// That the stored bytes of a chunk are those that were written; item() does it too.
  Status checkChunk(uint64_t chunk) const;
  /// Decodes the item's chunk, unless it is one of those decoded last. `item` is less than count().
  Result<std::vector<uint8_t>> item(uint32_t item) const;
  Result<std::string> text(uint32_t item) const;
  uint64_t storedBytes() const { return begins.empty() ? 0 : begins.back(); }
  /// Sum of the items' bytes.
  uint64_t rawBytes() const;

private:
  using Decoded = std::shared_ptr<const std::vector<uint8_t>>;
  Result<std::vector<uint8_t>> read(uint64_t chunk) const;
  Result<Decoded> decode(uint64_t chunk) const;
  Result<Decoded> decoded(uint64_t chunk) const;

  /// Chunks that were decoded last: what is asked for next is mostly in them.
  struct Cache {
    std::mutex mutex;
    std::list<std::pair<uint64_t, Decoded>> chunks; ///< most recently used first
    uint64_t bytes = 0;
  };
  std::shared_ptr<Cache> cache = std::make_shared<Cache>();
  std::string where; ///< "file: name"
  ChunkHash hash = ChunkHash::Xxh128;
  std::optional<SafetensorsReader> file;
  TensorEntry pool;
  std::vector<uint8_t> hashes;
  std::vector<uint64_t> chunks, items;
  std::vector<uint64_t> begins; ///< of each chunk in the pool, and the pool's end
};

} // namespace calibatt

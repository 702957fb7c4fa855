// Chunk pools: see the layout in the header.
#include "runtime/format/ChunkPool.h"
#include "runtime/format/Zstd.h"

#include <fmt/format.h>

namespace calibatt {
namespace {

/// A chunk is closed before it grows beyond this: reading one item should not
/// decode much more than it, yet similar neighbours should share a frame.
constexpr uint64_t kChunkBytes = 256 << 10;
constexpr uint64_t kMaxChunkBytes = uint64_t(1) << 30;

uint64_t hashBytes(ChunkHash hash) { return hash == ChunkHash::Sha256 ? 32 : 16; }

void appendDigest(std::vector<uint8_t> &out, ChunkHash hash, std::span<const uint8_t> bytes) {
  if (hash == ChunkHash::Sha256) {
    Sha256Digest digest = sha256(bytes);
    out.insert(out.end(), digest.begin(), digest.end());
  } else {
    Xxh128Digest digest = xxh128(bytes);
    out.insert(out.end(), digest.begin(), digest.end());
  }
}

std::vector<uint8_t> bytesOf(const std::vector<uint64_t> &values) {
  const uint8_t *data = reinterpret_cast<const uint8_t *>(values.data());
  return {data, data + values.size() * sizeof(uint64_t)};
}

uint64_t padded(uint64_t bytes) {
  return (bytes + kBlobAlignment - 1) / kBlobAlignment * kBlobAlignment;
}

} // namespace

Result<CompressedItem> compressItem(std::span<const uint8_t> raw, int level) {
  Result<std::vector<uint8_t>> frame = zstdCompress(raw, level);
  if (!frame)
    return frame.takeError();
  CompressedItem item{frame.take(), 0, raw.size()};
  item.frameBytes = item.frame.size();
  item.frame.resize(padded(item.frameBytes));
  item.frame.shrink_to_fit();
  return item;
}

/// Compresses what is pending, if anything is.
void ChunkPoolWriter::closeChunk() {
  if (items.empty() || items.back().chunk != chunks.size())
    return;
  Result<CompressedItem> chunk = compressItem(pending);
  if (chunk) {
    stored += chunk->frame.size();
    chunks.push_back(chunk.take());
  } else if (outcome) {
    outcome = chunk.takeError();
  }
  pending.clear();
}

uint32_t ChunkPoolWriter::append(CompressedItem item) {
  closeChunk();
  stored += item.frame.size();
  items.push_back({chunks.size(), 0, item.rawBytes});
  chunks.push_back(std::move(item));
  return count() - 1;
}

uint32_t ChunkPoolWriter::add(std::span<const uint8_t> bytes) {
  auto [entry, isNew] = known.emplace(sha256(bytes), count());
  if (!isNew)
    return entry->second;
  if (bytes.size() > kMaxChunkBytes && outcome)
    outcome = Error{fmt::format("{}: item {} has {} bytes, at most {} are allowed", name, count(),
                                bytes.size(), kMaxChunkBytes)};
  if (!pending.empty() && pending.size() + bytes.size() > kChunkBytes)
    closeChunk();
  items.push_back({chunks.size(), pending.size(), bytes.size()});
  pending.insert(pending.end(), bytes.begin(), bytes.end());
  return entry->second;
}

uint32_t ChunkPoolWriter::add(const std::string &text) {
  return add(std::span(reinterpret_cast<const uint8_t *>(text.data()), text.size()));
}

Status ChunkPoolWriter::writePool(SafetensorsWriter &out, std::vector<Table> &tables) const {
  Result<size_t> stream = out.beginStream(name + "/pool", DType::U8);
  if (!stream)
    return stream.takeError();
  std::vector<uint64_t> sizes, entries;
  std::vector<uint8_t> hashes;
  auto append = [&](const CompressedItem &chunk) {
    sizes.insert(sizes.end(), {chunk.frameBytes, chunk.rawBytes});
    appendDigest(hashes, hash, chunk.frame);
    return out.append(*stream, chunk.frame);
  };
  for (const CompressedItem &chunk : chunks)
    if (Status status = append(chunk); !status)
      return status;
  // An item of no bytes needs a chunk, too.
  if (!items.empty() && items.back().chunk == chunks.size()) {
    Result<CompressedItem> last = compressItem(pending);
    if (!last)
      return last.takeError();
    if (Status status = append(*last); !status)
      return status;
  }
  for (const Item &item : items)
    entries.insert(entries.end(), {item.chunk, item.offset, item.bytes});
  tables.push_back({name + "/pool", DType::U8, {out.streamBytes(*stream)}, {}});
  tables.push_back({name + "/chunks", DType::U64, {sizes.size() / 2, 2}, bytesOf(sizes)});
  tables.push_back({name + "/hash", DType::U8, {sizes.size() / 2, hashBytes(hash)}, hashes});
  tables.push_back({name + "/items", DType::U64, {items.size(), 3}, bytesOf(entries)});
  return {};
}

Result<ChunkPoolReader> ChunkPoolReader::open(const SafetensorsReader &file,
                                              const std::string &name, ChunkHash hash) {
  constexpr uint64_t kAny = SafetensorsReader::kAnySize;
  Result<TensorEntry> pool = file.entry(name + "/pool", DType::U8, {kAny});
  if (!pool)
    return pool.takeError();
  Result<TensorView> chunks = file.tensor(name + "/chunks", DType::U64, {kAny, 2});
  if (!chunks)
    return chunks.takeError();
  uint64_t chunkCount = chunks->shape[0];
  Result<TensorView> hashes = file.tensor(name + "/hash", DType::U8, {chunkCount, hashBytes(hash)});
  if (!hashes)
    return hashes.takeError();
  Result<TensorView> items = file.tensor(name + "/items", DType::U64, {kAny, 3});
  if (!items)
    return items.takeError();

  ChunkPoolReader reader;
  reader.where = file.path() + ": " + name;
  reader.hash = hash;
  reader.file = file;
  reader.pool = *pool;
  reader.hashes = hashes->copy<uint8_t>();
  reader.chunks = chunks->copy<uint64_t>();
  reader.items = items->copy<uint64_t>();
  uint64_t begin = 0;
  for (uint64_t i = 0; i < chunkCount; ++i) {
    uint64_t frame = reader.chunks[2 * i], raw = reader.chunks[2 * i + 1];
    reader.begins.push_back(begin);
    if (frame == 0 || frame > pool->bytes || raw > kMaxChunkBytes)
      return Error{fmt::format("{}/chunks: chunk {} has {} bytes for {} decoded ones, but the pool "
                               "has {} and at most {} are allowed",
                               reader.where, i, frame, raw, pool->bytes, kMaxChunkBytes)};
    begin += padded(frame);
    if (begin > pool->bytes)
      return Error{fmt::format("{}/chunks: chunk {} ends at byte {}, but the pool has {} bytes",
                               reader.where, i, begin, pool->bytes)};
  }
  reader.begins.push_back(begin);
  if (begin != pool->bytes)
    return Error{fmt::format("{}/chunks: chunks cover {} bytes, but the pool has {}", reader.where,
                             begin, pool->bytes)};
  if (items->shape[0] >= UINT32_MAX)
    return Error{fmt::format("{}/items: has {} entries, too many", reader.where, items->shape[0])};
  for (uint64_t i = 0; i < items->shape[0]; ++i) {
    const uint64_t *item = &reader.items[3 * i];
    if (item[0] >= chunkCount)
      return Error{fmt::format("{}/items: entry {} names chunk {}, but there are {}", reader.where,
                               i, item[0], chunkCount)};
    uint64_t raw = reader.chunks[2 * item[0] + 1];
    if (item[1] > raw || item[2] > raw - item[1])
      return Error{fmt::format("{}/items: entry {} is {} bytes at {}, but its chunk decodes to {}",
                               reader.where, i, item[2], item[1], raw)};
  }
  return reader;
}

Result<std::vector<uint8_t>> ChunkPoolReader::item(uint32_t item) const {
  const uint64_t *entry = &items[3 * size_t(item)];
  uint64_t chunk = entry[0];
  Result<std::vector<uint8_t>> stored =
      file->read(pool, begins[chunk], begins[chunk + 1] - begins[chunk]);
  if (!stored)
    return stored.takeError();
  std::string label = fmt::format("{}/pool: chunk {} (entry {})", where, chunk, item);
  std::vector<uint8_t> digest;
  appendDigest(digest, hash, *stored);
  std::span<const uint8_t> wanted = std::span(hashes).subspan(chunk * digest.size(), digest.size());
  if (!std::equal(digest.begin(), digest.end(), wanted.begin()))
    return Error{fmt::format("{} is damaged: its hash is {}, wanted {}", label, toHex(digest),
                             toHex(wanted))};
  Result<std::vector<uint8_t>> raw =
      zstdDecompress(std::span(*stored).first(chunks[2 * chunk]), chunks[2 * chunk + 1], label);
  if (!raw)
    return raw;
  auto begin = raw->begin() + int64_t(entry[1]);
  return std::vector<uint8_t>(begin, begin + int64_t(entry[2]));
}

Result<std::string> ChunkPoolReader::text(uint32_t item) const {
  Result<std::vector<uint8_t>> bytes = this->item(item);
  if (!bytes)
    return bytes.takeError();
  return std::string(bytes->begin(), bytes->end());
}

uint64_t ChunkPoolReader::rawBytes() const {
  uint64_t bytes = 0;
  for (uint32_t i = 0; i < count(); ++i)
    bytes += itemBytes(i);
  return bytes;
}

} // namespace calibatt

// Chunk pools: see the layout in the header.
#include "runtime/format/ChunkPool.h"
#include "runtime/format/Zstd.h"

#include <fmt/format.h>

#include <algorithm>

namespace calibatt {
namespace {

/// Decoded chunks that a reader keeps, together; one at least, however large.
constexpr uint64_t kCachedBytes = 16u << 20;

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

void ChunkPoolWriter::checkItem(uint64_t bytes) {
  if (bytes > maxItemBytes && outcome)
    outcome = Error{fmt::format("{}: item {} has {} bytes, at most {} are allowed", name, count(),
                                bytes, maxItemBytes)};
}

uint32_t ChunkPoolWriter::append(CompressedItem item) {
  checkItem(item.rawBytes);
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
  checkItem(bytes.size());
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
                                              const std::string &name, ChunkHash hash,
                                              uint64_t maxItemBytes) {
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
    const uint64_t most = std::max(kChunkBytes, maxItemBytes);
    if (frame == 0 || frame > pool->bytes || raw > most)
      return Error{fmt::format("{}/chunks: chunk {} has {} bytes for {} decoded ones, but the pool "
                               "has {} and at most {} are allowed",
                               reader.where, i, frame, raw, pool->bytes, most)};
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
  std::vector<uint64_t> covered(chunkCount); // of each chunk, by the items so far
  for (uint64_t i = 0; i < items->shape[0]; ++i) {
    const uint64_t *item = &reader.items[3 * i];
    if (item[0] >= chunkCount)
      return Error{fmt::format("{}/items: entry {} names chunk {}, but there are {}", reader.where,
                               i, item[0], chunkCount)};
    uint64_t raw = reader.chunks[2 * item[0] + 1];
    if (item[1] > raw || item[2] > raw - item[1])
      return Error{fmt::format("{}/items: entry {} is {} bytes at {}, but its chunk decodes to {}",
                               reader.where, i, item[2], item[1], raw)};
    if (item[2] > maxItemBytes)
      return Error{fmt::format("{}/items: entry {} has {} bytes, at most {} are allowed",
                               reader.where, i, item[2], maxItemBytes)};
    if (item[1] != covered[item[0]])
      return Error{fmt::format("{}/items: entry {} starts at byte {} of its chunk, wanted {}",
                               reader.where, i, item[1], covered[item[0]])};
    covered[item[0]] += item[2];
  }
  for (uint64_t i = 0; i < chunkCount; ++i)
    if (covered[i] != reader.chunks[2 * i + 1])
      return Error{fmt::format("{}/chunks: chunk {} decodes to {} bytes, but its items have {}",
                               reader.where, i, reader.chunks[2 * i + 1], covered[i])};
  return reader;
}

Status ChunkPoolReader::checkChunk(uint64_t chunk) const {
  Result<std::vector<uint8_t>> stored = read(chunk);
  return stored ? Status() : stored.takeError();
}

/// The stored bytes of a chunk, which have its hash.
Result<std::vector<uint8_t>> ChunkPoolReader::read(uint64_t chunk) const {
  Result<std::vector<uint8_t>> stored =
      file->read(pool, begins[chunk], begins[chunk + 1] - begins[chunk]);
  if (!stored)
    return stored;
  std::vector<uint8_t> digest;
  appendDigest(digest, hash, *stored);
  std::span<const uint8_t> wanted = std::span(hashes).subspan(chunk * digest.size(), digest.size());
  if (std::equal(digest.begin(), digest.end(), wanted.begin()))
    return stored;
  return Error{fmt::format("{}/pool: chunk {} is damaged: its hash is {}, wanted {}", where, chunk,
                           toHex(digest), toHex(wanted))};
}

Result<ChunkPoolReader::Decoded> ChunkPoolReader::decode(uint64_t chunk) const {
  Result<std::vector<uint8_t>> stored = read(chunk);
  if (!stored)
    return stored.takeError();
  Result<std::vector<uint8_t>> raw =
      zstdDecompress(std::span(*stored).first(chunks[2 * chunk]), chunks[2 * chunk + 1],
                     fmt::format("{}/pool: chunk {}", where, chunk));
  if (!raw)
    return raw.takeError();
  return std::make_shared<const std::vector<uint8_t>>(raw.take());
}

/// From the cache where it is there. Two threads may decode the same chunk, which is harmless.
Result<ChunkPoolReader::Decoded> ChunkPoolReader::decoded(uint64_t chunk) const {
  if (!cache)
    return decode(chunk);
  {
    const std::lock_guard lock(cache->mutex);
    const auto found = std::find_if(cache->chunks.begin(), cache->chunks.end(),
                                    [&](const auto &entry) { return entry.first == chunk; });
    if (found != cache->chunks.end()) {
      cache->chunks.splice(cache->chunks.begin(), cache->chunks, found);
      return cache->chunks.front().second;
    }
  }
  Result<Decoded> bytes = decode(chunk);
  if (!bytes)
    return bytes;
  const std::lock_guard lock(cache->mutex);
  cache->chunks.emplace_front(chunk, *bytes);
  cache->bytes += (*bytes)->size();
  while (cache->bytes > kCachedBytes && cache->chunks.size() > 1) {
    cache->bytes -= cache->chunks.back().second->size();
    cache->chunks.pop_back();
  }
  return bytes;
}

Result<std::vector<uint8_t>> ChunkPoolReader::item(uint32_t item) const {
  const uint64_t *entry = &items[3 * size_t(item)];
  Result<Decoded> chunk = decoded(entry[0]);
  if (!chunk)
    return chunk.takeError();
  const uint8_t *begin = (*chunk)->data() + entry[1];
  return std::vector<uint8_t>(begin, begin + entry[2]);
}

Result<std::string> ChunkPoolReader::text(uint32_t item) const {
  const uint64_t *entry = &items[3 * size_t(item)];
  Result<Decoded> chunk = decoded(entry[0]);
  if (!chunk)
    return chunk.takeError();
  return std::string(reinterpret_cast<const char *>((*chunk)->data()) + entry[1], entry[2]);
}

uint64_t ChunkPoolReader::rawBytes() const {
  uint64_t bytes = 0;
  for (uint32_t i = 0; i < count(); ++i)
    bytes += itemBytes(i);
  return bytes;
}

} // namespace calibatt

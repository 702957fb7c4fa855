#include "runtime/format/ScheduleCodec.h"

#include <fmt/format.h>

#include <bit>
#include <cstring>

namespace calibatt {
namespace {

static_assert(std::endian::native == std::endian::little, "rows are copied as they are in memory");

constexpr uint8_t kWhole = 0, kDifference = 1;
/// A distance byte of this value goes on in the next.
constexpr uint8_t kGoesOn = 255;

bool sameShape(const ScheduleMasks &a, const ScheduleMasks &b) {
  return a.tokens == b.tokens && a.heads == b.heads;
}

size_t rowBytes(const ScheduleMasks &masks) { return (masks.blocks() + 7) / 8; }

/// The distances between differing bits; stops where they would take more than `most` bytes.
std::vector<uint8_t> differences(const ScheduleMasks &masks, const ScheduleMasks &reference,
                                 size_t most) {
  std::vector<uint8_t> out;
  uint64_t next = 0; // the bit after the last that differed
  for (size_t i = 0; i < masks.words.size() && out.size() <= most; ++i)
    for (uint64_t bits = masks.words[i] ^ reference.words[i]; bits; bits &= bits - 1) {
      const uint64_t bit = i * 64 + unsigned(std::countr_zero(bits));
      uint64_t gap = bit - next;
      next = bit + 1;
      for (; gap >= kGoesOn; gap -= kGoesOn)
        out.push_back(kGoesOn);
      out.push_back(uint8_t(gap));
    }
  return out;
}

} // namespace

std::vector<uint8_t> encodeSchedule(const ScheduleHeader &header, const ScheduleMasks &masks,
                                    const ScheduleMasks *reference, bool &usedReference) {
  std::vector<uint8_t> out(sizeof(header) + 1 + (masks.heads + 7) / 8);
  std::memcpy(out.data(), &header, sizeof(header));
  for (uint32_t head = 0; head < masks.heads; ++head)
    if (masks.isRepetitive(head))
      out[sizeof(header) + 1 + head / 8] |= uint8_t(1u << head % 8);

  const size_t whole = masks.rows() * rowBytes(masks);
  usedReference = reference && sameShape(masks, *reference);
  if (usedReference) {
    // Distances compress about as well as bitmaps do where there are half as many bytes of them.
    std::vector<uint8_t> body = differences(masks, *reference, whole / 2);
    usedReference = body.size() <= whole / 2;
    if (usedReference) {
      out[sizeof(header)] = kDifference;
      out.insert(out.end(), body.begin(), body.end());
      return out;
    }
  }
  out[sizeof(header)] = kWhole;
  const size_t begin = out.size();
  out.resize(begin + whole);
  for (uint64_t row = 0; row < masks.rows(); ++row)
    std::memcpy(out.data() + begin + row * rowBytes(masks),
                masks.words.data() + row * masks.rowWords(), rowBytes(masks));
  return out;
}

Result<DecodedSchedule> decodeSchedule(std::span<const uint8_t> stored, ScheduleMasks reference,
                                       const std::string &name) {
  auto error = [&](const std::string &what) { return Error{name + ": " + what}; };
  DecodedSchedule decoded;
  if (stored.size() < sizeof(decoded.header) + 1)
    return error(fmt::format("has {} bytes, fewer than its header", stored.size()));
  std::memcpy(&decoded.header, stored.data(), sizeof(decoded.header));
  const uint8_t coding = stored[sizeof(decoded.header)];
  ScheduleMasks &masks = decoded.masks;
  masks.tokens = decoded.header.tokens;
  masks.heads = decoded.header.heads;
  masks.grid = {decoded.header.grid_height, decoded.header.grid_width, decoded.header.anchors};
  if (masks.heads == 0 || masks.heads > kMaxHeads || masks.tokens == 0 ||
      masks.tokens > kMaxRows * kBlock)
    return error(fmt::format("has {} heads and {} tokens, wanted 1 to {} and 1 to {}", masks.heads,
                             masks.tokens, kMaxHeads, kMaxRows * kBlock));
  stored = stored.subspan(sizeof(decoded.header) + 1);
  const size_t flagBytes = (masks.heads + 7) / 8;
  if (stored.size() < flagBytes)
    return error("ends within its header");
  if (masks.grid.anchors) {
    masks.repetitive.resize(masks.heads);
    for (uint32_t head = 0; head < masks.heads; ++head)
      masks.repetitive[head] = stored[head / 8] >> head % 8 & 1;
  }
  stored = stored.subspan(flagBytes);

  if (coding == kWhole) {
    if (stored.size() != masks.rows() * rowBytes(masks))
      return error(fmt::format("has {} bytes of rows, wanted {}", stored.size(),
                               masks.rows() * rowBytes(masks)));
    masks.words.resize(masks.rows() * masks.rowWords());
    for (uint64_t row = 0; row < masks.rows(); ++row)
      std::memcpy(masks.words.data() + row * masks.rowWords(),
                  stored.data() + row * rowBytes(masks), rowBytes(masks));
  } else if (coding == kDifference) {
    if (!sameShape(masks, reference))
      return error("is stored as the difference from another schedule of its shape, of which "
                   "there is none");
    masks.words = std::move(reference.words);
    const uint64_t bits = masks.words.size() * 64;
    uint64_t bit = 0;
    for (size_t i = 0; i < stored.size(); ++i) {
      bit += stored[i];
      if (stored[i] == kGoesOn)
        continue;
      if (bit >= bits)
        return error(fmt::format("bit {} differs, but there are {}", bit, bits));
      masks.words[bit / 64] ^= uint64_t(1) << bit % 64;
      ++bit;
    }
    if (!stored.empty() && stored.back() == kGoesOn)
      return error("ends within a distance");
  } else {
    return error(fmt::format("coding is {}, wanted {} or {}", coding, kWhole, kDifference));
  }
  if (Status status = checkMasks(masks, name); !status)
    return status.takeError();
  return decoded;
}

} // namespace calibatt

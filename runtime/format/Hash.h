// Digests: SHA-256 where a package must not be forged by accident or reuse,
// XXH3-128 where a flipped bit must be found fast.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace calibatt {

using Sha256Digest = std::array<uint8_t, 32>;
/// Low 64 bits first, each little-endian.
using Xxh128Digest = std::array<uint8_t, 16>;

/// SHA-256 (FIPS 180-4) of bytes that arrive in pieces.
class Sha256 {
public:
  Sha256();
  void update(std::span<const uint8_t> bytes);
  void update(const std::string &text);
  /// Call once.
  Sha256Digest finish();

private:
  void block(const uint8_t *bytes);

  std::array<uint32_t, 8> state;
  std::array<uint8_t, 64> pending{};
  uint64_t total = 0;
};

Sha256Digest sha256(std::span<const uint8_t> bytes);
Xxh128Digest xxh128(std::span<const uint8_t> bytes);
/// Lower-case hex, two characters a byte.
std::string toHex(std::span<const uint8_t> bytes);

} // namespace calibatt

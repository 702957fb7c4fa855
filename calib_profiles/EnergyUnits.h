// Block energies as whole numbers, so that sums over prompts are the same in
// whatever order prompts and files are added.
#pragma once

#include <bit>
#include <cstdint>

namespace calibatt {

/// An energy of 1 in units. 255 prompts of it fit into 32 bits.
constexpr uint32_t kEnergyOne = 1u << 24;

/// `energy`, 0 to 1, in units: rounded to 12 significant bits and then to a whole
/// unit. The error is at most 2^-12 of the energy and 2^-25.
inline uint32_t energyUnits(float energy) {
  uint32_t bits = std::bit_cast<uint32_t>(energy);
  bits = (bits + 0x7ff + (bits >> 12 & 1)) & ~0xfffu; // to nearest, ties to even
  // int32_t, because conversions to it are vector instructions. With 12 significant bits no value
  // is so near below a half that adding a half rounds.
  // NOLINTNEXTLINE(bugprone-incorrect-roundings)
  return uint32_t(int32_t(std::bit_cast<float>(bits) * float(kEnergyOne) + 0.5f));
}

/// 15 bits for what energyUnits() returns, without loss: up to 4095 the number
/// itself, above it a shift and the leading 12 bits.
inline uint16_t packUnits(uint32_t units) {
  if (units < 4096)
    return uint16_t(units);
  const int shift = int(std::bit_width(units)) - 12;
  return uint16_t(shift * 2048 + int(units >> shift));
}

inline uint32_t unpackUnits(uint16_t packed) {
  if (packed < 4096)
    return packed;
  const int shift = packed / 2048 - 1;
  return uint32_t(packed - shift * 2048) << shift;
}

/// The largest value of packUnits(): that of kEnergyOne.
constexpr uint16_t kMaxPackedUnits = 13 * 2048 + 2048;

/// The code of a mean energy of zero.
constexpr uint8_t kNoEnergy = 255;

/// A mean energy, `sum` units over `prompts`, as -8 log2 of it to the nearest
/// whole number: kNoEnergy for 0, at most 254 otherwise. What energyOfCode()
/// makes of it is within 2^(1/16) of the mean, 4.4 %, for means of 2^-31.75 and more.
uint8_t energyCode(uint32_t sum, uint32_t prompts);
/// 2^(-code / 8), and 0 for kNoEnergy.
double energyOfCode(uint8_t code);

} // namespace calibatt

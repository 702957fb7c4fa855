#include "runtime/host/RowCover.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <functional>
#include <vector>

namespace calibatt {

void coverRow(std::span<const float> energies, double epsilon, uint8_t *bits) {
  // As on the device (codegen/device/cover.cuh): energies that are not negative are ordered as
  // their bits, and a larger key comes first.
  std::vector<uint64_t> keys(energies.size());
  double total = 0;
  for (uint32_t c = 0; c < energies.size(); ++c) {
    keys[c] = uint64_t(std::bit_cast<uint32_t>(energies[c])) << 32 | uint32_t(~c);
    total += energies[c];
  }
  std::sort(keys.begin(), keys.end(), std::greater<>());
  const double target = epsilon * total;
  double prefix = 0;
  std::memset(bits, 0, (energies.size() + 7) / 8);
  for (const uint64_t key : keys) {
    const uint32_t column = ~uint32_t(key);
    bits[column / 8] |= uint8_t(1u << (column % 8));
    prefix += std::bit_cast<float>(uint32_t(key >> 32));
    if (prefix >= target)
      break;
  }
}

} // namespace calibatt

// The minimum cover of a row of block energies, as calibatt_energy leaves it.
#pragma once

#include <cstdint>
#include <span>

namespace calibatt {

/// Sets in `bits` ((energies.size() + 7) / 8 bytes, least significant bit first) the fewest blocks
/// whose energies, largest first and ties by lower column, reach epsilon times the row's sum;
/// clears the others. Sums are float64. A row with a NaN keeps every block.
void coverRow(std::span<const float> energies, double epsilon, uint8_t *bits);

} // namespace calibatt

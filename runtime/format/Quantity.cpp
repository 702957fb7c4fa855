// Digits in groups, binary units, plurals.
#include "runtime/format/Quantity.h"

#include <fmt/format.h>

namespace calibatt {

std::string groupedNumber(uint64_t value) {
  const std::string digits = std::to_string(value);
  std::string grouped;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0)
      grouped += ',';
    grouped += digits[i];
  }
  return grouped;
}

std::string byteQuantity(uint64_t bytes) {
  if (bytes < 1024)
    return fmt::format("{} B", bytes);
  static const char *const units[] = {"KiB", "MiB", "GiB", "TiB"};
  double value = double(bytes) / 1024;
  size_t unit = 0;
  for (; value >= 1023.95 && unit < 3; ++unit)
    value /= 1024;
  return fmt::format("{:.1f} {}", value, units[unit]);
}

std::string counted(uint64_t count, std::string_view noun, std::string_view plural) {
  if (count == 1)
    return fmt::format("1 {}", noun);
  return plural.empty() ? fmt::format("{} {}s", groupedNumber(count), noun)
                        : fmt::format("{} {}", groupedNumber(count), plural);
}

} // namespace calibatt

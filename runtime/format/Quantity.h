// Numbers as people read them, in reports and messages.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace calibatt {

/// "1,234,567".
std::string groupedNumber(uint64_t value);
/// "512 B", "1.5 KiB", "3.2 GiB".
std::string byteQuantity(uint64_t bytes);
/// Plural by count: counted(1, "site") is "1 site", counted(2, "site") is "2 sites"; a
/// plural that is not the noun and an s is given.
std::string counted(uint64_t count, std::string_view noun, std::string_view plural = {});

} // namespace calibatt

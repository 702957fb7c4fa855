// What packages and profiles have one of everything for.
#pragma once

#include <cstdint>
#include <string>

namespace calibatt {

/// One (layer, head, step).
struct Site {
  uint32_t layer = 0, head = 0, step = 0;
};

/// "layer 3, head 1, step 0".
std::string siteName(const Site &site);

} // namespace calibatt

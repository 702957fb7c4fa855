#include "runtime/format/PackageRemarks.h"

#include "runtime/format/Quantity.h"

#include <fmt/format.h>

namespace calibatt {

std::string repetitionRemark(uint64_t repetitive, uint64_t sites) {
  return fmt::format("{} of {} {} repetitive", repetitive, counted(sites, "site"),
                     repetitive == 1 ? "is" : "are");
}

std::string spillRemark(const CodeImage &image) {
  if (!image.spillStores && !image.spillLoads)
    return {};
  return fmt::format("{}: spills registers: {} bytes of stores, {} bytes of loads", image.symbol,
                     image.spillStores, image.spillLoads);
}

} // namespace calibatt

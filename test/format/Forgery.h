// Packages whose digests are right and whose content is not: what someone who forges a file would
// make. PackageWriter refuses to write them.
#pragma once

#include "runtime/format/Json.h"

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace calibatt::test {

using ChangeBytes = std::function<void(std::vector<uint8_t> &)>;

/// Copies a package with one tensor changed and, if asked, the manifest.
void forge(const std::string &from, const std::string &to, const std::string &tensor,
           const ChangeBytes &change, const std::function<void(Json &)> &changeManifest = {});

/// Copies a package with one item of a pool ("code", "data", "order" or "text") changed: in a chunk
/// of its own, whose hash fits.
void forgeItem(const std::string &from, const std::string &to, const std::string &pool,
               uint32_t item, const ChangeBytes &change);
/// What is stored of one data image (ScheduleCodec.h).
inline void forgeSchedule(const std::string &from, const std::string &to, uint32_t data,
                          const ChangeBytes &change) {
  forgeItem(from, to, "data", data, change);
}

} // namespace calibatt::test

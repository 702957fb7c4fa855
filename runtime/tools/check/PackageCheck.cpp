// Packages and shards: stored bytes first, then what they decode to.
#include "runtime/format/OrderedPool.h"
#include "runtime/format/ScheduleDecoder.h"
#include "runtime/tools/check/FileCheck.h"

#include <algorithm>
#include <thread>

namespace calibatt {

namespace {

/// Images that one thread decodes, each from the one before it.
constexpr uint32_t kImagesATime = 32;

/// The data images that do not have their hash, of [begin, end).
Result<std::vector<FileFault>> wrongImages(const PackageReader &package, uint32_t begin,
                                           uint32_t end) {
  std::vector<FileFault> faults;
  ScheduleDecoder decoder(package);
  for (uint32_t image = begin; image < end; ++image)
    if (auto bytes = decoder.image(image); !bytes)
      faults.push_back({"data/pool", std::nullopt, "", bytes.message()});
  return faults;
}

} // namespace

FileCheck checkPackage(const PackageReader &package, bool decode) {
  FileCheck check;
  check.path = package.path();
  check.kind = package.manifest().shard ? "shard" : "package";
  check.tensors = package.tensorCount(); // by open()
  check.chunks = package.chunkCount();
  check.bytes = package.fileBytes();
  for (const PackageReader::DamagedChunk &damaged : package.damagedChunks())
    check.faults.push_back({damaged.tensor, damaged.chunk, "", damaged.message});
  // A damaged chunk would be found again by everything that is decoded from it.
  if (!check.passed()) {
    limitFaults(check);
    return check;
  }
  for (uint32_t order = 0; order < package.orderCount(); ++order)
    if (auto rows = package.order(order); !rows)
      check.faults.push_back({"order/pool", std::nullopt, "", rows.message()});
  const uint32_t images = decode ? package.dataCount() : 0;
  Status status = runOrdered(
      (images + kImagesATime - 1) / kImagesATime, std::max(1u, std::thread::hardware_concurrency()),
      [&](size_t i) {
        const uint32_t begin = uint32_t(i) * kImagesATime;
        return wrongImages(package, begin, std::min(images, begin + kImagesATime));
      },
      [&](size_t, std::vector<FileFault> faults) -> Status {
        check.faults.insert(check.faults.end(), faults.begin(), faults.end());
        return {};
      });
  if (!status)
    check.faults.push_back({"", std::nullopt, "", package.path() + ": " + status.message()});
  limitFaults(check);
  return check;
}

} // namespace calibatt

#include "runtime/src/WorkList.h"

#include "runtime/format/Quantity.h"
#include "runtime/format/ScheduleLayout.h"
#include "runtime/src/TileLists.h"

#include <fmt/format.h>

#include <cstring>

namespace calibatt {
namespace {

/// Visits of each tile of `work`, from the rows of the launch's data image.
std::vector<uint32_t> countVisits(const KernelLaunch &launch, const std::vector<uint8_t> &image,
                                  const std::vector<uint32_t> &work) {
  ScheduleHeader header;
  std::memcpy(&header, image.data(), sizeof header);
  std::vector<uint32_t> visits;
  visits.reserve(work.size());
  for (const uint32_t word : work) {
    RowEntry entry;
    const uint64_t row =
        uint64_t(workHead(word) - launch.headBase) * header.query_blocks + workRow(word);
    std::memcpy(&entry, image.data() + header.rows_offset + row * sizeof entry, sizeof entry);
    visits.push_back(entry.visits & kRowVisitsMask);
  }
  return visits;
}

} // namespace

Result<WorkList> makeWorkList(const PackageReader &package, const KernelLaunch &launch,
                              uint32_t batch, const LaunchData &data, uint32_t ctas) {
  const uint32_t blocks = package.manifest().problem.blocks();
  const size_t wanted = size_t(launch.headCount) * blocks * batch;
  WorkList list;
  list.words.reserve(wanted);
  for (const uint16_t tile : data.order) {
    const uint32_t scheduleHead = tile / blocks;
    if (scheduleHead - (launch.headBegin - launch.headBase) >= launch.headCount)
      continue;
    for (uint32_t b = 0; b < batch; ++b)
      list.words.push_back(packWork(tile % blocks, scheduleHead + launch.headBase, b));
  }
  if (list.words.size() != wanted)
    return Error{fmt::format("{}: tile order of kernel {} gives {} for {} of {}", package.path(),
                             launch.kernel, counted(list.words.size() / batch, "tile"),
                             counted(launch.headCount, "head"), counted(blocks, "block"))};
  list.count = uint32_t(wanted);
  const KernelRecord &record = package.kernel(launch.kernel);
  if (!package.codeInfo(record.code).persistent)
    return list;
  if (record.data == kNone)
    return Error{fmt::format("{}: kernel {} is persistent and has no data image", package.path(),
                             launch.kernel)};
  TileLists cut = cutTileLists(list.words, countVisits(launch, data.image, list.words), ctas);
  list.words = std::move(cut.work);
  list.count = uint32_t(list.words.size());
  list.lists = uint32_t(cut.begins.size() - 1);
  list.words.insert(list.words.end(), cut.begins.begin(), cut.begins.end());
  return list;
}

} // namespace calibatt

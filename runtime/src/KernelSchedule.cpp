#include "runtime/src/KernelSchedule.h"

#include <fmt/format.h>

#include <algorithm>

namespace calibatt {

Result<Schedule> kernelSchedule(const PackageReader &package, uint32_t kernel) {
  const KernelRecord &record = package.kernel(kernel);
  const std::string name = fmt::format("{}: kernel {}", package.path(), kernel);
  const auto decode = [&]() -> Result<Schedule> {
    if (record.data != kNone) {
      auto image = package.data(record.data);
      if (!image)
        return image.takeError();
      return decodeScheduleImage(*image, name + ": data image");
    }
    auto cuda = package.cuda(record.code);
    if (!cuda)
      return cuda.takeError();
    return decodeEmittedSchedule(*cuda, name + ": CUDA text");
  };
  Result<Schedule> schedule = decode();
  if (!schedule)
    return schedule;
  const Problem &problem = package.manifest().problem;
  const auto disagree = [&](const char *what, uint64_t got, uint64_t wanted) {
    return Error{fmt::format("{}: its schedule has {} {}, but the package says {}", name, got, what,
                             wanted)};
  };
  if (schedule->tokens != problem.tokens)
    return disagree("tokens", schedule->tokens, problem.tokens);
  if (schedule->heads != record.heads)
    return disagree("heads", schedule->heads, record.heads);
  if (schedule->queryBlocks != problem.blocks())
    return disagree("query blocks", schedule->queryBlocks, problem.blocks());
  if (schedule->keyBlocks != problem.blocks())
    return disagree("key blocks", schedule->keyBlocks, problem.blocks());
  return schedule;
}

Result<std::shared_ptr<const Schedule>> ScheduleCache::get(uint32_t kernel) {
  const std::lock_guard lock(mutex);
  const auto found = std::find_if(entries.begin(), entries.end(),
                                  [&](const Entry &entry) { return entry.kernel == kernel; });
  if (found != entries.end()) {
    entries.splice(entries.begin(), entries, found);
    return entries.front().schedule;
  }
  auto schedule = kernelSchedule(package, kernel);
  if (!schedule)
    return schedule.takeError();
  entries.push_front({kernel, std::make_shared<const Schedule>(schedule.take())});
  if (entries.size() > kEntries)
    entries.pop_back();
  return entries.front().schedule;
}

} // namespace calibatt

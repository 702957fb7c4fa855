#include "runtime/src/KernelSchedule.h"

#include <fmt/format.h>

#include <algorithm>

namespace calibatt {

namespace {

std::string nameOf(const PackageReader &package, uint32_t kernel) {
  return fmt::format("{}: kernel {}", package.path(), kernel);
}

Error disagree(const std::string &name, const char *what, uint64_t got, uint64_t wanted) {
  return Error{
      fmt::format("{}: its schedule has {} {}, but the package says {}", name, got, what, wanted)};
}

/// checkDataImage with the grid of the kernel's own code.
Status checkAgainstCode(const PackageReader &package, uint32_t kernel,
                        std::span<const uint8_t> image) {
  auto compiled = package.compiledGrid(package.kernel(kernel).code);
  if (!compiled)
    return compiled.takeError();
  return checkDataImage(package, kernel, image, *compiled);
}

Result<Schedule> dataSchedule(const PackageReader &package, uint32_t kernel) {
  const KernelRecord &record = package.kernel(kernel);
  auto image = package.data(record.data);
  if (!image)
    return image.takeError();
  if (Status sound = checkAgainstCode(package, kernel, *image); !sound)
    return sound.takeError();
  return decodeScheduleImage(*image, nameOf(package, kernel) + ": data image");
}

Result<Schedule> emittedSchedule(const PackageReader &package, uint32_t kernel) {
  auto cuda = package.cuda(package.kernel(kernel).code);
  if (!cuda)
    return cuda.takeError();
  return decodeEmittedSchedule(*cuda, nameOf(package, kernel) + ": CUDA text");
}

/// Blocks follow from tokens in both decoders.
Status checkExtents(const PackageReader &package, uint32_t kernel, uint32_t heads,
                    uint32_t tokens) {
  const uint32_t wantedTokens = package.manifest().problem.tokens;
  if (tokens != wantedTokens)
    return disagree(nameOf(package, kernel), "tokens", tokens, wantedTokens);
  const uint32_t wantedHeads = package.kernel(kernel).heads;
  if (heads != wantedHeads)
    return disagree(nameOf(package, kernel), "heads", heads, wantedHeads);
  return {};
}

} // namespace

Status checkDataImage(const PackageReader &package, uint32_t kernel, std::span<const uint8_t> image,
                      const AnchorGrid &compiled) {
  const std::string name = nameOf(package, kernel);
  Result<ScheduleHeader> header = checkScheduleImage(image, name + ": data image");
  if (!header)
    return header.takeError();
  const Form form = package.codeInfo(package.kernel(kernel).code).form;
  if (Form(header->form) != form)
    return Error{fmt::format("{}: its schedule has form {}, but its code has {}", name,
                             formName(Form(header->form)), formName(form))};
  const AnchorGrid grid{header->grid_height, header->grid_width, header->anchors};
  if (grid != AnchorGrid{} && grid != compiled)
    return Error{fmt::format("{}: its schedule has {} anchors in a grid of {} x {}, but its code "
                             "was compiled for {} in {} x {}",
                             name, grid.anchors, grid.height, grid.width, compiled.anchors,
                             compiled.height, compiled.width)};
  return checkExtents(package, kernel, header->heads, header->tokens);
}

Result<Schedule> kernelSchedule(const PackageReader &package, uint32_t kernel) {
  if (package.kernel(kernel).data != kNone)
    return dataSchedule(package, kernel);
  Result<Schedule> schedule = emittedSchedule(package, kernel);
  if (!schedule)
    return schedule;
  if (Status fits = checkExtents(package, kernel, schedule->heads, schedule->tokens); !fits)
    return fits.takeError();
  return schedule;
}

Result<ScheduleMasks> kernelMasks(const PackageReader &package, uint32_t kernel,
                                  ScheduleDecoder &decoder) {
  const KernelRecord &record = package.kernel(kernel);
  if (record.data == kNone) {
    Result<Schedule> schedule = kernelSchedule(package, kernel);
    if (!schedule)
      return schedule.takeError();
    return masksOf(*schedule);
  }
  auto image = decoder.image(record.data);
  if (!image)
    return image.takeError();
  if (Status sound = checkAgainstCode(package, kernel, *image); !sound)
    return sound.takeError();
  return masksOfImage(*image, nameOf(package, kernel) + ": data image");
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

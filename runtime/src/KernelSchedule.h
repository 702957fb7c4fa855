// The schedule of a package's kernel, from the very bytes the kernel reads: its data image, or the
// visits of its emitted CUDA text.
#pragma once

#include "runtime/format/Package.h"
#include "runtime/format/ScheduleDecoder.h"
#include "runtime/format/ScheduleImage.h"

#include <list>
#include <memory>
#include <mutex>
#include <span>

namespace calibatt {

/// Checks a kernel's data image before a kernel reads it: in itself, and against the kernel's
/// record, the package's problem, and the grid its code was compiled for.
Status checkDataImage(const PackageReader &package, uint32_t kernel, std::span<const uint8_t> image,
                      const AnchorGrid &compiled);

/// Decodes and checks it against the package: form, tokens, heads and grid have to agree.
Result<Schedule> kernelSchedule(const PackageReader &package, uint32_t kernel);

/// The same as bitmaps, which takes a fraction of the time; `decoder` is of this package.
Result<ScheduleMasks> kernelMasks(const PackageReader &package, uint32_t kernel,
                                  ScheduleDecoder &decoder);

/// The schedules used last; safe from several threads.
class ScheduleCache {
public:
  explicit ScheduleCache(const PackageReader &package) : package(package) {}
  Result<std::shared_ptr<const Schedule>> get(uint32_t kernel);

private:
  // A 720p step of 40 heads decodes to about 10 MB.
  static constexpr size_t kEntries = 8;
  struct Entry {
    uint32_t kernel;
    std::shared_ptr<const Schedule> schedule;
  };

  const PackageReader &package;
  std::mutex mutex;
  std::list<Entry> entries; ///< most recently used first
};

} // namespace calibatt

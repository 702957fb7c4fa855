// What is behind a calibatt_package_t: the reader, strings for its info, and the schedules decoded
// last. Shared by the handle and its sessions.
#pragma once

#include "runtime/format/Package.h"
#include "runtime/src/KernelSchedule.h"

#include <memory>
#include <string>

namespace calibatt {

struct PackageState {
  explicit PackageState(PackageReader opened) : reader(std::move(opened)), schedules(reader) {
    for (const std::string &arch : reader.manifest().archs)
      archs += (archs.empty() ? "" : ",") + arch;
  }

  const PackageReader reader;
  mutable ScheduleCache schedules;
  std::string archs; ///< comma-separated
};

} // namespace calibatt

struct calibatt_package {
  std::shared_ptr<const calibatt::PackageState> state;
};

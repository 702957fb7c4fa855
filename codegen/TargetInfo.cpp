#include "codegen/TargetInfo.h"

namespace calibatt {

Result<TargetInfo> findTarget(const std::string &name) {
  if (name == "sm_90a")
    return TargetInfo{"sm_90a", "90a", 13};
  return Error{name + ": only sm_90a is built for now"};
}

} // namespace calibatt

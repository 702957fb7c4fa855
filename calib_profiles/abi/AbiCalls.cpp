// Messages of failed calls, a thread each, and the functions that tell them.
#include "calib_profiles/abi/AbiCalls.h"

#include <utility>

namespace {
thread_local std::string lastError;
} // namespace

namespace calibatt::abi {

calibatt_profile_status_t fail(calibatt_profile_status_t status, std::string message) {
  lastError = std::move(message);
  return status;
}

calibatt_profile_status_t nullArgument(const char *function, const char *argument) {
  return fail(CALIBATT_PROFILE_STATUS_INVALID_ARGUMENT,
              fmt::format("{}: {} is null", function, argument));
}

} // namespace calibatt::abi

const char *calibatt_profile_version(void) { return CALIBATT_VERSION; }

const char *calibatt_profile_last_error_message(void) { return lastError.c_str(); }

const char *calibatt_profile_status_name(calibatt_profile_status_t status) {
  switch (status) {
#define CALIBATT_NAME(name)                                                                        \
  case CALIBATT_PROFILE_STATUS_##name:                                                             \
    return "CALIBATT_PROFILE_STATUS_" #name;
    CALIBATT_NAME(OK)
    CALIBATT_NAME(INVALID_ARGUMENT)
    CALIBATT_NAME(BAD_FILE)
    CALIBATT_NAME(MISMATCH)
    CALIBATT_NAME(BUSY)
    CALIBATT_NAME(BAD_VALUES)
    CALIBATT_NAME(STORAGE)
    CALIBATT_NAME(OUT_OF_MEMORY)
    CALIBATT_NAME(INTERNAL)
#undef CALIBATT_NAME
  }
  return "an unknown status";
}

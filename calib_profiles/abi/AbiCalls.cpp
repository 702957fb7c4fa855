// Messages of failed calls, a thread each, and the functions that tell them.
#include "calib_profiles/abi/AbiCalls.h"

#include "calib_profiles/ProfileHeader.h"

#include <string_view>
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

// The header is used as it is, so its version is written there; the project's is CMake's.
#define CALIBATT_TEXT(number) #number
#define CALIBATT_DOTTED(a, b, c) CALIBATT_TEXT(a) "." CALIBATT_TEXT(b) "." CALIBATT_TEXT(c)
#define CALIBATT_HEADER_VERSION                                                                    \
  CALIBATT_DOTTED(CALIBATT_PROFILE_VERSION_MAJOR, CALIBATT_PROFILE_VERSION_MINOR,                  \
                  CALIBATT_PROFILE_VERSION_PATCH)
static_assert(std::string_view(CALIBATT_HEADER_VERSION) == CALIBATT_PROJECT_VERSION,
              "profile.h and project() are of different versions");
static_assert(std::string_view(calibatt::kToolName) == "calibatt " CALIBATT_PROJECT_VERSION,
              "profiles would name a version that project() does not");

const char *calibatt_profile_version(void) { return CALIBATT_PROJECT_VERSION; }

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

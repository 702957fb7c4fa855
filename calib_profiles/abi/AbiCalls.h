// What every function of profile.h does around its work: statuses, messages, and
// structs of older callers.
#pragma once

#include "calib_profiles/include/calibatt/profile.h"
#include "runtime/format/Result.h"

#include <fmt/format.h>

#include <cstring>
#include <exception>
#include <new>
#include <string>

namespace calibatt::abi {

/// Keeps the message for the calling thread.
calibatt_profile_status_t fail(calibatt_profile_status_t status, std::string message);
calibatt_profile_status_t nullArgument(const char *function, const char *argument);

/// Runs a function that returns a status; exceptions become statuses.
template <typename Body> calibatt_profile_status_t guarded(const Body &body) noexcept {
  try {
    try {
      return body();
    } catch (const std::bad_alloc &) {
      return fail(CALIBATT_PROFILE_STATUS_OUT_OF_MEMORY, "out of host memory");
    } catch (const std::exception &error) {
      return fail(CALIBATT_PROFILE_STATUS_INTERNAL, error.what());
    }
  } catch (...) { // not even memory for the message
    return CALIBATT_PROFILE_STATUS_OUT_OF_MEMORY;
  }
}

/// Copies a caller's struct of an older (shorter) or this version; what it lacks stays zero.
template <typename T>
calibatt_profile_status_t readStruct(const char *function, const T *given, T &value) {
  if (!given)
    return nullArgument(function, "its struct");
  if (given->struct_size <= sizeof(size_t) || given->struct_size > sizeof(T))
    return fail(CALIBATT_PROFILE_STATUS_INVALID_ARGUMENT,
                fmt::format("{}: struct_size is {}, wanted at most {} (set it to the sizeof of the "
                            "struct)",
                            function, given->struct_size, sizeof(T)));
  value = T{};
  std::memcpy(&value, given, given->struct_size);
  value.struct_size = sizeof(T);
  return CALIBATT_PROFILE_STATUS_OK;
}

/// Fills as much of a caller's struct as it has.
template <typename T>
calibatt_profile_status_t writeStruct(const char *function, T value, T *result) {
  T unused;
  if (const auto status = readStruct(function, result, unused))
    return status;
  value.struct_size = result->struct_size;
  std::memcpy(result, &value, result->struct_size);
  return CALIBATT_PROFILE_STATUS_OK;
}

} // namespace calibatt::abi

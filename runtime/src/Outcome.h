// What an operation behind the C ABI came to: a status code and its sentence.
#pragma once

#include "runtime/format/Result.h"
#include "runtime/include/calibatt/calibatt.h"

#include <string>
#include <utility>

namespace calibatt {

/// Success by default; otherwise a code and why.
struct [[nodiscard]] Outcome {
  calibatt_status_t code = CALIBATT_STATUS_OK;
  std::string message;

  Outcome() = default;
  Outcome(calibatt_status_t code, std::string message) : code(code), message(std::move(message)) {}
  bool ok() const { return code == CALIBATT_STATUS_OK; }
};

} // namespace calibatt

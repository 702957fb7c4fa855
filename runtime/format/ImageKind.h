// What reports call a code image.
#pragma once

#include "runtime/format/CalibrationParams.h"
#include "runtime/format/ScheduleLayout.h"

#include <string_view>

namespace calibatt {

/// Kernels that measure energies for a calibration; a form says nothing of them.
constexpr bool isCalibrationImage(std::string_view symbol) {
  return symbol.starts_with(CALIBATT_CALIBRATION_SYMBOL);
}
constexpr const char *kCalibrationKind = "calibration";
/// "calibration", or the form.
constexpr const char *imageKind(std::string_view symbol, Form form) {
  return isCalibrationImage(symbol) ? kCalibrationKind : formName(form);
}

} // namespace calibatt

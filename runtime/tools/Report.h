// How commands print: errors, JSON, and text that is coloured only on a terminal.
#pragma once

#include "runtime/inspect/TextTable.h"

#include <nlohmann/json.hpp>
#include <string>

namespace calibatt {

/// Colour where stdout is a terminal, NO_COLOR is unset and TERM is not dumb.
TextStyle stdoutStyle();
/// "calibatt: error: MESSAGE" on stderr; returns kExitFailed.
int reportFailure(const std::string &message);
/// Writes text to stdout; kExitDone, or kExitFailed with the reason where stdout cannot take it.
int printText(const std::string &text);
/// The same of an indented JSON document and a newline; bytes that are not UTF-8 are replaced.
int printJson(const nlohmann::ordered_json &json);

} // namespace calibatt

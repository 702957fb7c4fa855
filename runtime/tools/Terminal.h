// What the terminal behind stdout is and can show.
#pragma once

#include <cstdint>
#include <string>

namespace calibatt {

bool stdoutIsTerminal();
/// Of the terminal; else COLUMNS of the environment, else 80.
uint32_t terminalColumns();
/// Whether the locale's characters are UTF-8 and TERM is one that draws them.
bool drawsUnicode();
/// The text with '?' for every character of more than 7 bits, as a model's name may have.
std::string asciiText(const std::string &text);

} // namespace calibatt

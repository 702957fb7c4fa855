// Size from the terminal, characters from the environment.
#include "runtime/tools/Terminal.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <sys/ioctl.h>
#include <unistd.h>

namespace calibatt {

bool stdoutIsTerminal() { return isatty(STDOUT_FILENO) == 1; }

uint32_t terminalColumns() {
  winsize size = {};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
    return size.ws_col;
  uint32_t columns = 0;
  if (const char *text = std::getenv("COLUMNS"))
    std::from_chars(text, text + std::strlen(text), columns);
  return columns ? columns : 80;
}

bool drawsUnicode() {
  const char *term = std::getenv("TERM");
  if (term && (std::string_view(term) == "dumb" || std::string_view(term) == "linux"))
    return false;
  // The first that is set decides, as in setlocale(3).
  for (const char *name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    const char *value = std::getenv(name);
    if (!value || !*value)
      continue;
    std::string locale(value);
    std::transform(locale.begin(), locale.end(), locale.begin(),
                   [](unsigned char c) { return char(std::tolower(c)); });
    return locale.find("utf-8") != std::string::npos || locale.find("utf8") != std::string::npos;
  }
  return false;
}

std::string asciiText(const std::string &text) {
  std::string ascii;
  for (const char c : text)
    if (!(c & 0x80))
      ascii += c;
    else if ((c & 0xC0) != 0x80) // the first byte of a character
      ascii += '?';
  return ascii;
}

} // namespace calibatt

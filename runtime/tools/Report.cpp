// Printing for all commands.
#include "runtime/tools/Report.h"

#include "runtime/tools/Commands.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <unistd.h>

namespace calibatt {

TextStyle stdoutStyle() {
  const char *term = std::getenv("TERM");
  const char *noColour = std::getenv("NO_COLOR");
  bool capable = term && std::string_view(term) != "dumb" && !(noColour && *noColour);
  return {capable && isatty(STDOUT_FILENO) == 1};
}

int reportFailure(const std::string &message) {
  std::fprintf(stderr, "calibatt: error: %s\n", message.c_str());
  return kExitFailed;
}

int printText(const std::string &text) {
  errno = 0;
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0)
    return reportFailure(std::string("stdout: cannot write: ") + std::strerror(errno));
  return kExitDone;
}

int printJson(const nlohmann::ordered_json &json) {
  return printText(json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) +
                   "\n");
}

} // namespace calibatt

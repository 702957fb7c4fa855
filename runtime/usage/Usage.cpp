// Suggestions, messages and help around CLI11.
#include "runtime/usage/Usage.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <optional>

namespace calibatt {
namespace {

constexpr int kExitDone = 0, kExitUsage = 2;

/// Letters to change, add, leave out, or swap with the next.
size_t editDistance(const std::string &a, const std::string &b) {
  std::vector<std::vector<size_t>> cost(a.size() + 1, std::vector<size_t>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i)
    for (size_t j = 0; j <= b.size(); ++j) {
      if (i == 0 || j == 0) {
        cost[i][j] = i + j;
        continue;
      }
      cost[i][j] = std::min(
          {cost[i - 1][j] + 1, cost[i][j - 1] + 1, cost[i - 1][j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        cost[i][j] = std::min(cost[i][j], cost[i - 2][j - 2] + 1);
    }
  return cost[a.size()][b.size()];
}

/// "calibatt inspect show", and the app that has its options.
struct Command {
  const CLI::App *app;
  std::string words;
};

/// The commands that were found, from the program inwards.
std::vector<Command> commandsOf(const CLI::App &app) {
  std::vector<Command> commands{{&app, app.get_name()}};
  for (auto below = app.get_subcommands(); !below.empty();
       below = commands.back().app->get_subcommands())
    commands.push_back({below.back(), commands.back().words + " " + below.back()->get_name()});
  return commands;
}

std::vector<const CLI::App *> commandsBelow(const CLI::App &app) {
  std::vector<const CLI::App *> found;
  for (const CLI::App *below : app.get_subcommands([](const CLI::App *) { return true; }))
    found.push_back(below);
  return found;
}

std::vector<std::string> commandNames(const CLI::App &app) {
  std::vector<std::string> names;
  for (const CLI::App *below : commandsBelow(app))
    names.push_back(below->get_name());
  return names;
}

std::string didYouMean(const std::string &word) {
  return word.empty() ? "" : "; did you mean " + word + "?";
}

std::string unknownOption(const Command &command, const std::string &text) {
  const std::string name = text.substr(0, text.find('='));
  std::vector<std::string> names;
  for (const CLI::Option *option : command.app->get_options())
    for (const std::string &known : option->get_lnames())
      names.push_back("--" + known);
  return command.words + " has no option " + name + didYouMean(nearestWord(name, names));
}

std::string unknownCommand(const Command &command, const std::string &word) {
  std::string meant = nearestWord(word, commandNames(*command.app));
  if (meant.empty()) // one of another command, such as "ls"
    for (const CLI::App *group : commandsBelow(*command.app))
      for (const std::string &name : commandNames(*group))
        if (name == word)
          meant = group->get_name() + " " + name;
  return command.words + " has no command \"" + word + "\"" + didYouMean(meant);
}

/// What parse() could not place, as the user gave it.
std::string unexpected(const Command &command, const std::vector<std::string> &rest) {
  for (const std::string &text : rest)
    if (text.size() > 1 && text.front() == '-')
      return unknownOption(command, text);
  if (!commandsBelow(*command.app).empty())
    return unknownCommand(command, rest.front());
  return "\"" + rest.front() + "\" was not expected: " + command.words +
         " takes no further argument";
}

/// What numbers an option takes, by the C++ type behind it.
const char *wantedNumber(const CLI::App &app, const std::string &name) {
  const CLI::Option *option = app.get_option_no_throw(name);
  const std::string type = option ? option->get_type_name() : "";
  return type == "FLOAT" || type == "SHARE" || type == "COSINE" || type == "RATE"
             ? "a number"
             : "a whole number, 0 or more";
}

std::string messageOf(const Command &command, const CLI::ParseError &error) {
  const std::string text = error.what();
  auto after = [&](const std::string &start) -> std::optional<std::string> {
    if (text.rfind(start, 0) != 0)
      return std::nullopt;
    return text.substr(start.size());
  };
  if (text == "A subcommand is required")
    return command.words + " wants a command: " + alternatives(commandNames(*command.app));
  if (auto rest = after("Could not convert: ")) {
    const size_t equals = rest->find(" = ");
    const std::string name = rest->substr(0, equals);
    return name + ": got \"" + (equals == std::string::npos ? "" : rest->substr(equals + 3)) +
           "\", wanted " + wantedNumber(*command.app, name);
  }
  if (const size_t at = text.find(" excludes "); at != std::string::npos)
    return text.substr(0, at) + " and " + text.substr(at + 10) + " exclude each other";
  if (const size_t at = text.find(": 1 required "); at != std::string::npos) {
    const std::string rest = text.substr(at + 13);
    return text.substr(0, at) + ": its value is missing: " + rest.substr(0, rest.find(" missing"));
  }
  return text;
}

class ShortFormatter : public CLI::Formatter {
public:
  std::string make_option_opts(const CLI::Option *option) const override {
    std::string text;
    if (option->get_type_size() != 0) {
      const std::string type = option->get_type_name();
      if (!type.empty())
        text += " " + get_label(type);
      if (!option->get_default_str().empty())
        text += "=" + option->get_default_str();
      if (option->get_expected_max() == CLI::detail::expected_max_vector_size)
        text += "...";
    }
    return text;
  }
  std::string make_option_usage(const CLI::Option *option) const override {
    const std::string name =
        make_option_name(option, true) +
        (option->get_expected_max() == CLI::detail::expected_max_vector_size ? "..." : "");
    return option->get_required() ? name : "[" + name + "]";
  }
};

} // namespace

std::string nearestWord(const std::string &word, const std::vector<std::string> &candidates) {
  std::string nearest;
  size_t least = std::max<size_t>(2, word.size() / 3) + 1;
  for (const std::string &candidate : candidates)
    if (const size_t distance = editDistance(word, candidate);
        distance < least && distance < candidate.size())
      least = distance, nearest = candidate;
  return nearest;
}

std::string alternatives(const std::vector<std::string> &words) {
  std::string text;
  for (size_t i = 0; i < words.size(); ++i)
    text += (i == 0 ? "" : i + 1 == words.size() ? " or " : ", ") + words[i];
  return text;
}

int reportUsage(const std::string &program, const std::string &command,
                const std::string &message) {
  std::fflush(stdout);
  std::fprintf(stderr, "%s: error: %s\nRun %s --help for more.\n", program.c_str(), message.c_str(),
               command.c_str());
  return kExitUsage;
}

int reportParseError(const CLI::App &app, const CLI::ParseError &error) {
  // Help and version arrive here too.
  if (error.get_exit_code() == 0)
    return app.exit(error) == 0 ? kExitDone : kExitUsage;
  const std::vector<Command> commands = commandsOf(app);
  const int code = error.get_exit_code();
  // A word that nobody knows says more than what is missing because of it.
  if (code == int(CLI::ExitCodes::ExtrasError) || code == int(CLI::ExitCodes::RequiredError))
    for (const Command &command : commands)
      if (const std::vector<std::string> rest = command.app->remaining(); !rest.empty())
        return reportUsage(app.get_name(), command.words, unexpected(command, rest));
  return reportUsage(app.get_name(), commands.back().words, messageOf(commands.back(), error));
}

void shortenHelp(CLI::App &app) {
  auto formatter = std::make_shared<ShortFormatter>();
  formatter->column_width(34);
  formatter->label("UINT", "N");
  formatter->label("INT", "N");
  formatter->label("FLOAT", "X");
  app.formatter(formatter);
}

CLI::Validator wholeNumber(uint64_t least, uint64_t most) {
  return CLI::Validator(
      [least, most](std::string &text) -> std::string {
        uint64_t value = 0;
        const char *end = text.data() + text.size();
        auto [rest, status] = std::from_chars(text.data(), end, value);
        if (status == std::errc() && rest == end && value >= least && value <= most)
          return {};
        const std::string from = std::to_string(least);
        return "got \"" + text + "\", wanted a whole number" +
               (most == UINT32_MAX ? ", " + from + " or more"
                                   : " from " + from + " to " + std::to_string(most));
      },
      "");
}

CLI::Validator numberAboveZero() {
  return CLI::Validator(
      [](std::string &text) -> std::string {
        double value = 0;
        const char *end = text.data() + text.size();
        auto [rest, status] = std::from_chars(text.data(), end, value);
        if (status == std::errc() && rest == end && std::isfinite(value) && value > 0)
          return {};
        return "got \"" + text + "\", wanted a number above 0";
      },
      "");
}

void addChoice(CLI::Option &option, const std::vector<std::string> &words) {
  std::string type;
  for (const std::string &word : words)
    type += (type.empty() ? "" : "|") + word;
  option.type_name(type)->check(CLI::Validator(
      [words](std::string &text) -> std::string {
        if (std::find(words.begin(), words.end(), text) != words.end())
          return {};
        return "got \"" + text + "\", wanted " + alternatives(words) +
               didYouMean(nearestWord(text, words));
      },
      ""));
}

void addByteSize(CLI::Option &option) {
  option.type_name("SIZE")->transform(CLI::Validator(
      [](std::string &text) -> std::string {
        const std::string wrong =
            "got \"" + text + "\", wanted bytes, or a whole number of KiB, MiB, GiB or TiB";
        uint64_t value = 0;
        const char *end = text.data() + text.size();
        auto [rest, status] = std::from_chars(text.data(), end, value);
        if (status != std::errc())
          return wrong;
        std::string unit = CLI::detail::to_lower(std::string(rest, end));
        unit.erase(0, unit.find_first_not_of(' '));
        unsigned shift = 0;
        if (!unit.empty() && unit != "b") {
          const size_t power = std::string("kmgt").find(unit.front());
          const std::string ending = unit.substr(1);
          if (power == std::string::npos || (ending != "" && ending != "b" && ending != "ib"))
            return wrong;
          shift = 10 * unsigned(power + 1);
        }
        if (value > UINT64_MAX >> shift)
          return wrong;
        text = std::to_string(value << shift);
        return {};
      },
      ""));
}

} // namespace calibatt

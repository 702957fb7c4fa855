// Strict JSON on nlohmann's parser, without its exceptions crossing over.
#include "runtime/format/Json.h"

#include <fmt/format.h>

#include <cmath>
#include <set>

namespace calibatt {
namespace {

const Json &emptyObject() {
  static const Json json = Json::object();
  return json;
}

const Json &emptyArray() {
  static const Json json = Json::array();
  return json;
}

} // namespace

Result<Json> parseJson(std::string_view text, const std::string &where, int maxDepth) {
  // The parser skips a byte order mark, and takes a NUL for the end.
  if (text.starts_with("\xEF\xBB\xBF") || text.find('\0') != std::string_view::npos)
    return Error{fmt::format("{}: not valid JSON: has a byte order mark or a NUL", where)};
  std::vector<std::set<std::string>> keys;
  std::string problem;
  auto watch = [&](int depth, Json::parse_event_t event, Json &parsed) {
    if (!problem.empty())
      return false;
    const bool begins =
        event == Json::parse_event_t::object_start || event == Json::parse_event_t::array_start;
    if (begins && depth >= maxDepth) { // the outermost has depth 0
      problem = fmt::format("JSON is nested deeper than {}", maxDepth);
      return false;
    }
    if (event == Json::parse_event_t::object_start) {
      keys.emplace_back();
    } else if (event == Json::parse_event_t::object_end) {
      keys.pop_back();
    } else if (event == Json::parse_event_t::key) {
      const std::string &key = parsed.get_ref<const std::string &>();
      if (!keys.back().insert(key).second)
        problem = fmt::format("JSON has the key \"{}\" twice in one object", shownName(key));
    }
    return problem.empty();
  };
  try {
    Json json = Json::parse(text.begin(), text.end(), watch);
    if (!problem.empty())
      return Error{fmt::format("{}: {}", where, problem)};
    return json;
  } catch (const Json::exception &exception) {
    if (!problem.empty())
      return Error{fmt::format("{}: {}", where, problem)};
    std::string reason = exception.what();
    // "[json.exception.parse_error.101] parse error at ..." -> "parse error at ..."
    if (size_t bracket = reason.find("] "); bracket != std::string::npos)
      reason.erase(0, bracket + 2);
    reason = reason.substr(0, 300);
    for (char &c : reason) // it quotes the text, which may be no UTF-8
      if (uint8_t(c) < 32 || uint8_t(c) > 126)
        c = '?';
    return Error{fmt::format("{}: not valid JSON: {}", where, reason)};
  }
}

Result<std::string> writeJson(const Json &json, const std::string &where) {
  try {
    return json.dump();
  } catch (const Json::exception &) {
    return Error{fmt::format("{}: a string is not UTF-8", where)};
  }
}

std::string shownName(const std::string &name) {
  constexpr size_t kShown = 100;
  size_t end = std::min(name.size(), kShown);
  while (end < name.size() && end > 0 && (uint8_t(name[end]) & 0xC0) == 0x80)
    --end; // not inside a character
  std::string shown = name.substr(0, end);
  for (char &c : shown)
    if (uint8_t(c) < 32 || c == 127)
      c = '?';
  return end < name.size() ? shown + "..." : shown;
}

JsonFields::JsonFields(const Json &object, std::string where)
    : json(object.is_object() ? object : emptyObject()), where(std::move(where)) {
  if (!object.is_object())
    fail(fmt::format("is {}, wanted an object", object.type_name()));
}

bool JsonFields::has(const char *key) const { return json.contains(key); }

void JsonFields::fail(const std::string &message) {
  if (firstError.empty())
    firstError = fmt::format("{}: {}", where, message);
}

Status JsonFields::status() const {
  if (firstError.empty())
    return {};
  return Error{firstError};
}

const Json *JsonFields::member(const char *key, const char *wanted) {
  auto found = json.find(key);
  if (found != json.end())
    return &*found;
  fail(fmt::format("{} is missing, wanted {}", key, wanted));
  return nullptr;
}

void JsonFields::mistyped(const char *key, const char *wanted) {
  fail(fmt::format("{} is {}, wanted {}", key, json[key].type_name(), wanted));
}

uint64_t JsonFields::integer(const char *key, uint64_t low, uint64_t high) {
  const Json *value = member(key, "an integer");
  if (!value)
    return 0;
  if (value->is_number_unsigned()) {
    uint64_t number = value->get<uint64_t>();
    if (number >= low && number <= high)
      return number;
    fail(fmt::format("{} is {}, wanted {} to {}", key, number, low, high));
  } else if (value->is_number_integer()) {
    fail(fmt::format("{} is {}, wanted {} to {}", key, value->get<int64_t>(), low, high));
  } else {
    mistyped(key, "an integer");
  }
  return 0;
}

uint32_t JsonFields::u32(const char *key, uint32_t low, uint32_t high) {
  return uint32_t(integer(key, low, high));
}

double JsonFields::number(const char *key) {
  const Json *value = member(key, "a number");
  if (!value)
    return 0;
  if (value->is_number()) {
    double number = value->get<double>();
    if (std::isfinite(number))
      return number;
  }
  mistyped(key, "a finite number");
  return 0;
}

bool JsonFields::boolean(const char *key) {
  const Json *value = member(key, "true or false");
  if (value && !value->is_boolean())
    mistyped(key, "true or false");
  return value && value->is_boolean() && value->get<bool>();
}

std::string JsonFields::string(const char *key) {
  const Json *value = member(key, "a string");
  if (!value)
    return {};
  if (value->is_string())
    return value->get<std::string>();
  mistyped(key, "a string");
  return {};
}

std::vector<std::string> JsonFields::strings(const char *key) {
  std::vector<std::string> texts;
  for (const Json &value : array(key)) {
    if (!value.is_string()) {
      fail(fmt::format("{}[{}] is {}, wanted a string", key, texts.size(), value.type_name()));
      return {};
    }
    texts.push_back(value.get<std::string>());
  }
  return texts;
}

const Json &JsonFields::object(const char *key) {
  const Json *value = member(key, "an object");
  if (value && value->is_object())
    return *value;
  if (value)
    mistyped(key, "an object");
  return emptyObject();
}

const Json &JsonFields::array(const char *key) {
  const Json *value = member(key, "an array");
  if (value && value->is_array())
    return *value;
  if (value)
    mistyped(key, "an array");
  return emptyArray();
}

} // namespace calibatt

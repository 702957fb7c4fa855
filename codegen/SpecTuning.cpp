#include "codegen/SpecTuning.h"

#include <fmt/format.h>

#include <array>
#include <charconv>

namespace calibatt {

namespace {

/// One of the two members is set.
struct Field {
  std::string_view name;
  int AttentionSpec::*number = nullptr;
  bool AttentionSpec::*flag = nullptr;
};

/// In the order of AttentionSpec, as designated initialisers want it.
constexpr std::array kFields = {
    Field{.name = "stages", .number = &AttentionSpec::stages},
    Field{.name = "ping_pong", .flag = &AttentionSpec::ping_pong},
    Field{.name = "lazy_rescale", .flag = &AttentionSpec::lazy_rescale},
    Field{.name = "persistent", .flag = &AttentionSpec::persistent},
    Field{.name = "frozen_max", .flag = &AttentionSpec::frozen_max},
    Field{.name = "mma_sums", .flag = &AttentionSpec::mma_sums},
    Field{.name = "watchdog", .flag = &AttentionSpec::watchdog},
};

std::string fieldNames() {
  std::string names;
  for (const Field &field : kFields)
    names += (names.empty() ? "" : ", ") + std::string(field.name);
  return names;
}

Status applyOne(AttentionSpec &spec, std::string_view text) {
  size_t equals = text.find('=');
  if (equals == text.npos)
    return Error{fmt::format("tuning \"{}\" is not FIELD=VALUE", text)};
  std::string_view name = text.substr(0, equals), value = text.substr(equals + 1);
  for (const Field &field : kFields) {
    if (field.name != name)
      continue;
    int number = 0;
    auto [end, status] = std::from_chars(value.data(), value.data() + value.size(), number);
    if (status != std::errc() || end != value.data() + value.size() || number < 0)
      return Error{fmt::format("tuning \"{}\" has the value \"{}\", wanted a number", name, value)};
    if (field.flag && number > 1)
      return Error{fmt::format("tuning \"{}\" has the value {}, wanted 0 or 1", name, number)};
    if (field.flag)
      spec.*field.flag = number != 0;
    else
      spec.*field.number = number;
    return {};
  }
  return Error{fmt::format("tuning names \"{}\", wanted one of {}", name, fieldNames())};
}

} // namespace

Status applyTuning(AttentionSpec &spec, std::string_view text) {
  AttentionSpec tuned = spec;
  while (!text.empty()) {
    size_t comma = text.find(',');
    if (Status one = applyOne(tuned, text.substr(0, comma)); !one)
      return one;
    text = comma == text.npos ? std::string_view() : text.substr(comma + 1);
  }
  spec = tuned;
  return {};
}

std::string tuningText(const AttentionSpec &spec) {
  std::string text;
  for (const Field &field : kFields) {
    text += fmt::format("{}.{} = ", text.empty() ? "" : ", ", field.name);
    text +=
        field.flag ? fmt::format("{}", spec.*field.flag) : fmt::format("{}", spec.*field.number);
  }
  return text;
}

} // namespace calibatt

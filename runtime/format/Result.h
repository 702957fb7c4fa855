// Errors as values, for the layers that must not throw across their interface.
// A message names the file, the field, what was found and what was wanted.
#pragma once

#include <cassert>
#include <optional>
#include <string>
#include <utility>
#include <variant>

namespace calibatt {

/// Why something failed: one sentence, no trailing period, lower case.
struct Error {
  std::string message;
};

/// A value or an Error. Test with `if (!r) return r.takeError();`.
template <typename T> class [[nodiscard]] Result {
public:
  Result(T value) : state(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : state(std::in_place_index<1>, std::move(error)) {}

  explicit operator bool() const { return state.index() == 0; }
  T &operator*() { return std::get<0>(state); }
  const T &operator*() const { return std::get<0>(state); }
  T *operator->() { return &std::get<0>(state); }
  const T *operator->() const { return &std::get<0>(state); }
  /// Moves the value out; the Result must hold one.
  T take() { return std::move(std::get<0>(state)); }

  const std::string &message() const { return std::get<1>(state).message; }
  Error takeError() { return std::move(std::get<1>(state)); }

private:
  std::variant<T, Error> state;
};

/// Success or an Error.
template <> class [[nodiscard]] Result<void> {
public:
  Result() = default;
  Result(Error error) : error(std::move(error)) {}

  explicit operator bool() const { return !error.has_value(); }
  const std::string &message() const { return error->message; }
  Error takeError() { return std::move(*error); }

private:
  std::optional<Error> error;
};

using Status = Result<void>;

} // namespace calibatt

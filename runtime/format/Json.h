// JSON documents from files that are not trusted: strict parsing, and reading
// an object's members with one error that names file and field.
#pragma once

#include "runtime/format/Result.h"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace calibatt {

using Json = nlohmann::json;

/// Parses one document. Refuses duplicate keys, containers more than `maxDepth` deep in one another
/// and anything around the document but white space. `where` begins the error message.
Result<Json> parseJson(std::string_view text, const std::string &where, int maxDepth = 32);
/// Compact, keys sorted. Fails where a string is not UTF-8.
Result<std::string> writeJson(const Json &json, const std::string &where);

/// A name of a file that is not trusted, for a message: short, without control characters.
std::string shownName(const std::string &name);

/// Reads the members of one object. The first thing wrong is kept and reading
/// goes on with zero values, so that status() can be asked once at the end.
class JsonFields {
public:
  JsonFields(const Json &object, std::string where);

  bool has(const char *key) const;
  /// Required members; integers must be inside [low, high].
  uint64_t integer(const char *key, uint64_t low = 0,
                   uint64_t high = std::numeric_limits<uint64_t>::max());
  uint32_t u32(const char *key, uint32_t low = 0,
               uint32_t high = std::numeric_limits<uint32_t>::max());
  double number(const char *key); ///< finite
  bool boolean(const char *key);
  std::string string(const char *key);
  std::vector<std::string> strings(const char *key);
  /// A required object or array member; an empty one after an error.
  const Json &object(const char *key);
  const Json &array(const char *key);

  /// Keeps `message` (after "where: ") if it is the first.
  void fail(const std::string &message);
  Status status() const;

private:
  const Json *member(const char *key, const char *wanted);
  void mistyped(const char *key, const char *wanted);

  const Json &json;
  std::string where;
  std::string firstError;
};

} // namespace calibatt

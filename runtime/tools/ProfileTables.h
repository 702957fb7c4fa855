// A profile's summary as aligned text and as JSON: shared by `calibrate` and `profile info`.
#pragma once

#include "calib_profiles/ProfileSummary.h"
#include "runtime/inspect/TextTable.h"

#include <nlohmann/json.hpp>

#include <string>

namespace calibatt {

/// Model, shape, criterion, means, then a table a layer.
std::string profileText(const std::string &path, uint64_t fileBytes, const ProfileHeader &header,
                        const ProfileSummary &summary, const TextStyle &style);
/// The same and the means of every step.
nlohmann::ordered_json profileJson(const std::string &path, uint64_t fileBytes,
                                   const ProfileHeader &header, const ProfileSummary &summary);

/// File, model and shape: how the JSON of a profile and that of counts begin.
nlohmann::ordered_json modelJson(const std::string &path, uint64_t fileBytes,
                                 const ProfileHeader &header);

/// "NAME 123/400" on stderr, rewritten in place; silent where stderr is no terminal.
class ProgressLine {
public:
  ProgressLine(std::string name, uint64_t total);
  ~ProgressLine();
  void update(uint64_t done);

private:
  std::string name;
  uint64_t total;
  bool terminal;
};

/// Bytes of a file, 0 where it cannot be read.
uint64_t fileSize(const std::string &path);

} // namespace calibatt

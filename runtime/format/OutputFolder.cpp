// See OutputFolder.h.
#include "runtime/format/OutputFolder.h"

#include <fmt/format.h>

#include <filesystem>
#include <unistd.h>

namespace fs = std::filesystem;

namespace calibatt {

Result<OutputFolder> OutputFolder::make(const std::string &path) {
  OutputFolder out;
  out.folder = path;
  std::error_code error;
  for (fs::path at = fs::absolute(path, error); !at.empty() && !fs::exists(at, error);
       at = at.parent_path())
    out.made.push_back(at);
  fs::create_directories(path, error);
  if (error) {
    out.undo();
    return Error{fmt::format("{}: cannot make the folder: {}", path, error.message())};
  }
  return out;
}

Status OutputFolder::write(const std::string &name, const std::string &text) {
  return writeTogether(
      {{file(name), std::span(reinterpret_cast<const uint8_t *>(text.data()), text.size())}});
}

Status OutputFolder::writeTogether(const std::vector<NamedBytes> &files) {
  Status status = calibatt::writeTogether(files);
  if (!status) {
    undo();
    return status;
  }
  for (const NamedBytes &file : files)
    written.push_back(file.path);
  return {};
}

void OutputFolder::undo() {
  for (const std::string &path : written)
    ::unlink(path.c_str());
  for (const std::string &path : made) // none that somebody else put something into
    ::rmdir(path.c_str());
  written.clear();
  made.clear();
}

} // namespace calibatt

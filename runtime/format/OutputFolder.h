// A folder that a command writes files into, and takes away again when it cannot write them all.
#pragma once

#include "runtime/format/AtomicFile.h"

#include <string>
#include <vector>

namespace calibatt {

/// Files that appear whole. Where one cannot be written, those that this object wrote before it,
/// and the folders that it made, are removed: a full disk is not left full of a part.
class OutputFolder {
public:
  /// Makes the folder, and those above it, where it is missing.
  static Result<OutputFolder> make(const std::string &path);

  std::string file(const std::string &name) const { return folder + "/" + name; }
  /// One more file.
  Status write(const std::string &name, const std::string &text);
  /// Files that nobody can do anything with one by one.
  Status writeTogether(const std::vector<NamedBytes> &files);

private:
  void undo();

  std::string folder;
  std::vector<std::string> made;    ///< folders, innermost first
  std::vector<std::string> written; ///< files
};

} // namespace calibatt

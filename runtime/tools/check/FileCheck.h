// Is a file as it was written: every hash in it against the bytes it is of.
#pragma once

#include "runtime/format/Package.h"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace calibatt {

/// One thing that is not as it was written.
struct FileFault {
  std::string tensor;            ///< empty where it is none, or not known
  std::optional<uint64_t> chunk; ///< of a pool
  std::string site;              ///< "layer 3, head 0", or empty
  std::string message;           ///< with file, tensor and chunk or site
};

struct FileCheck {
  std::string path;
  std::string kind; ///< "package", "shard", "profile", "counts", "record", "dump", "bitmaps", or ""
  uint64_t tensors = 0, chunks = 0; ///< hashed: tensors whole, chunks (or sites) one by one
  uint64_t bytes = 0;               ///< of the file
  bool hashed = true;            ///< false: this kind has no hashes, only its structure is checked
  std::string note;              ///< what was not checked and why, or empty
  std::vector<FileFault> faults; ///< at most kMaxFaults, and one that says how many more

  bool passed() const { return faults.empty(); }
};
constexpr size_t kMaxFaults = 20;

/// Reads all of the file, decodes a schedule or a head at a time, writes nothing.
FileCheck checkFile(const std::string &path);

/// The same of a package that is open. Its schedules are decoded and hashed where `decode`.
FileCheck checkPackage(const PackageReader &package, bool decode = true);

nlohmann::ordered_json checkJson(const FileCheck &check);

/// Cuts the list down to what is shown.
void limitFaults(FileCheck &check);

} // namespace calibatt

// The device sources, embedded: handed to NVRTC in memory, so that an installed
// compiler needs no files beside it.
#pragma once

#include <span>
#include <string>

namespace calibatt {

/// One header, NUL-terminated. The name is what device code includes:
/// relative to codegen/device ("ptx/tma.cuh"), or to the repository for the two
/// headers shared with the host ("runtime/format/LaunchParams.h").
struct DeviceFile {
  const char *name;
  const char *text;
};

/// Every file of codegen/device and the shared headers.
std::span<const DeviceFile> deviceLibrary();
/// SHA-256 over all names and texts, lower-case hex.
const std::string &deviceLibraryDigest();

} // namespace calibatt

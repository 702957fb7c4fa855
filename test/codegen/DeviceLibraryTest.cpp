#include "codegen/DeviceLibrary.h"

#include <algorithm>
#include <doctest/doctest.h>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <regex>

using namespace calibatt;

namespace {

namespace fs = std::filesystem;

std::string readText(const fs::path &path) {
  std::ifstream in(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

std::map<std::string, std::string> embedded() {
  std::map<std::string, std::string> files;
  for (const DeviceFile &file : deviceLibrary())
    files[file.name] = file.text;
  return files;
}

} // namespace

TEST_CASE("the device library holds every device file, byte for byte") {
  const fs::path root = CALIBATT_SOURCE_DIR;
  std::map<std::string, std::string> expected;
  for (const char *shared : {"runtime/format/AnchorLayout.h", "runtime/format/CalibrationParams.h",
                             "runtime/format/LaunchParams.h", "runtime/format/ScheduleLayout.h"})
    expected[shared] = readText(root / shared);
  for (const auto &entry : fs::recursive_directory_iterator(root / "codegen/device"))
    if (entry.path().extension() == ".cuh")
      expected[fs::relative(entry.path(), root / "codegen/device").generic_string()] =
          readText(entry.path());
  CHECK(expected.size() > 10);
  CHECK(embedded() == expected);
  CHECK(deviceLibrary().size() == expected.size());
}

TEST_CASE("every include of a device file is in the library") {
  const auto files = embedded();
  const std::regex include("#include \"([^\"]+)\"");
  for (const auto &[name, text] : files)
    for (std::sregex_iterator it(text.begin(), text.end(), include), end; it != end; ++it) {
      CAPTURE(name);
      CAPTURE((*it)[1].str());
      CHECK(files.contains((*it)[1].str()));
    }
}

TEST_CASE("the library's digest is a SHA-256") {
  CHECK(deviceLibraryDigest().size() == 64);
  CHECK(deviceLibraryDigest().find_first_not_of("0123456789abcdef") == std::string::npos);
}

// What our reader makes of safetensors files, for reference_test.py: reads paths from standard
// input, prints a JSON line for each: its metadata and tensors with their bytes, or why not.
#include "runtime/format/Hash.h"
#include "runtime/format/Json.h"
#include "runtime/format/Safetensors.h"

#include <fmt/format.h>

#include <iostream>

using namespace calibatt;

namespace {

Json describe(const std::string &path) {
  Result<SafetensorsReader> file = SafetensorsReader::open(path);
  if (!file)
    return {{"refused", file.message()}};
  Json tensors = Json::array();
  for (const TensorEntry &entry : file->tensors()) {
    Result<std::vector<uint8_t>> bytes = file->read(entry, 0, entry.bytes);
    Result<TensorView> view = file->tensor(entry.name);
    if (!bytes || !view)
      return {{"failed", entry.name}};
    tensors.push_back(
        {{"name", entry.name},
         {"dtype", dtypeName(entry.dtype)},
         {"shape", entry.shape},
         {"sha256", toHex(sha256(*bytes))},
         {"same", std::equal(bytes->begin(), bytes->end(), view->data.begin(), view->data.end())}});
  }
  const std::string *metadata = file->metadata("k");
  return {{"tensors", std::move(tensors)}, {"metadata", metadata ? Json(*metadata) : Json()}};
}

} // namespace

int main() {
  for (std::string path; std::getline(std::cin, path);)
    fmt::print("{}\n", describe(path).dump());
  return 0;
}

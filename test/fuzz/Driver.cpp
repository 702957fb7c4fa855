// Runs a fuzz target without libFuzzer: `--runs N [CORPUS]` over the seeds, the files of a folder
// and N mutations of them; else over the files it is given.
#include "test/fuzz/FuzzTarget.h"

#include <algorithm>
#include <cstring>
#include <filesystem>

using namespace calibatt::test;

namespace {

void mutate(Random &random, std::vector<uint8_t> &bytes) {
  for (uint64_t edits = random.integer(1, 6); edits > 0 && !bytes.empty(); --edits) {
    size_t at = random.integer(0, bytes.size() - 1);
    switch (random.integer(0, 5)) {
    case 0:
      bytes[at] ^= uint8_t(1u << random.integer(0, 7));
      break;
    case 1:
      bytes[at] = uint8_t(random.integer(0, 255));
      break;
    case 2: { // a field of 4 or 8 bytes becomes an interesting number
      static constexpr uint64_t kNumbers[] = {0,       1, 0x7FFFFFFF, 0xFFFFFFFF, ~uint64_t(0) - 7,
                                              1u << 31};
      uint64_t value = kNumbers[random.integer(0, std::size(kNumbers) - 1)];
      at &= ~size_t(3);
      std::memcpy(bytes.data() + at, &value, std::min<size_t>(8, bytes.size() - at));
      break;
    }
    case 3:
      bytes.resize(at);
      break;
    case 4:
      bytes.erase(bytes.begin() + int64_t(at));
      break;
    default: {
      std::vector<uint8_t> more = random.bytes(random.integer(1, 16));
      bytes.insert(bytes.begin() + int64_t(at), more.begin(), more.end());
    }
    }
  }
}

} // namespace

int main(int argc, char **argv) {
  Random random;
  std::vector<std::vector<uint8_t>> seeds = fuzzSeeds(random);
  if (argc == 3 && std::strcmp(argv[1], "--write-seeds") == 0) {
    for (size_t i = 0; i < seeds.size(); ++i)
      writeBytes(std::string(argv[2]) + "/seed-" + std::to_string(i), seeds[i]);
    return 0;
  }
  if (argc < 3 || argc > 4 || std::strcmp(argv[1], "--runs") != 0) {
    for (int i = 1; i < argc; ++i) {
      std::vector<uint8_t> bytes = readBytes(argv[i]);
      LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
    }
    return 0;
  }
  if (argc == 4) {
    std::vector<std::string> names;
    for (const auto &entry : std::filesystem::directory_iterator(argv[3]))
      names.push_back(entry.path().string());
    std::sort(names.begin(), names.end());
    for (const std::string &name : names)
      seeds.push_back(readBytes(name));
    expect(!names.empty(), "the corpus has files");
  }
  std::printf("seed %llu\n", static_cast<unsigned long long>(random.seed));
  std::fflush(stdout);
  for (const std::vector<uint8_t> &seed : seeds)
    LLVMFuzzerTestOneInput(seed.data(), seed.size());
  for (int run = std::atoi(argv[2]); run > 0; --run) {
    std::vector<uint8_t> bytes = seeds[random.integer(0, seeds.size() - 1)];
    mutate(random, bytes);
    LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
  }
  return 0;
}

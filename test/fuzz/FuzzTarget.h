// What a fuzz target is: libFuzzer's entry point and the seeds it starts from.
#pragma once

#include "test/format/Samples.h"

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

namespace calibatt::test {

/// Well-formed inputs of the target, of fresh random content.
std::vector<std::vector<uint8_t>> fuzzSeeds(Random &random);

/// A file in memory that can be opened by path.
class MemoryFile {
public:
  explicit MemoryFile(std::span<const uint8_t> bytes) : fd(::memfd_create("fuzz", MFD_CLOEXEC)) {
    while (!bytes.empty()) {
      ssize_t count = ::write(fd, bytes.data(), bytes.size());
      if (count <= 0)
        std::abort();
      bytes = bytes.subspan(size_t(count));
    }
  }
  ~MemoryFile() { ::close(fd); }
  MemoryFile(const MemoryFile &) = delete;
  std::string path() const { return "/proc/self/fd/" + std::to_string(fd); }

private:
  int fd;
};

/// Ends the process where an invariant of the target does not hold.
inline void expect(bool holds, const char *invariant) {
  if (holds)
    return;
  std::fprintf(stderr, "does not hold: %s\n", invariant);
  std::abort();
}

} // namespace calibatt::test

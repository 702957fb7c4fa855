// `calibatt bench --prewarm`: how long a session takes to go to the next step, and
// how much device memory two steps need.
#pragma once

#include <cstdint>
#include <string>

namespace calibatt {

struct PrewarmOptions {
  std::string package, device;
  uint32_t threads = 0; ///< that decode; 0: one per CPU
  uint32_t batch = 1;
  bool json = false;
};

/// Prewarms the steps in their order and prints; on the host it only decodes what a GPU would be
/// given. Returns the exit code.
int runPrewarmBench(const PrewarmOptions &options);

} // namespace calibatt

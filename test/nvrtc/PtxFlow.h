// The control flow of PTX text: which loops a kernel has and what is inside them.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace calibatt::test {

/// A backward branch that really closes a loop, and what lies on the loop.
/// The waits of mbarriers, which spin in inline assembly, do not count.
struct PtxLoop {
  std::string label; ///< where it begins
  size_t wgmma = 0;  ///< matrix instructions inside
  size_t loads = 0;  ///< TMA loads inside
};

std::vector<PtxLoop> ptxLoops(const std::string &ptx);

/// Lines that contain `text`.
size_t countLines(const std::string &ptx, const std::string &text);
inline size_t countWgmma(const std::string &ptx) { return countLines(ptx, "wgmma.mma_async"); }
inline size_t countLoads(const std::string &ptx) {
  return countLines(ptx, "cp.async.bulk.tensor.5d.shared");
}

} // namespace calibatt::test

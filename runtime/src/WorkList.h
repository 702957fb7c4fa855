// Which tiles a launch computes, as its kernel reads them.
#pragma once

#include "runtime/src/LaunchData.h"

namespace calibatt {

/// On the device: the words, and behind them where each list begins.
struct WorkList {
  std::vector<uint32_t> words; ///< packWork words, then lists + 1 begins where there are lists
  uint32_t count = 0;          ///< packWork words
  uint32_t lists = 0;          ///< of a persistent kernel: one a CTA; else 0
};

/// Of the launch's heads and `batch`, in its launch order; for a persistent kernel cut into at most
/// `ctas` lists. Fails where the package's order has not every tile once. Any thread may call it.
Result<WorkList> makeWorkList(const PackageReader &package, const KernelLaunch &launch,
                              uint32_t batch, const LaunchData &data, uint32_t ctas);

} // namespace calibatt

// What launches read besides tensors, made again from the package and checked: data
// images and launch orders, those of several layers at a time.
#pragma once

#include "runtime/src/KernelSchedule.h"
#include "runtime/src/LaunchPlan.h"

#include <functional>
#include <map>
#include <span>
#include <utility>
#include <vector>

namespace calibatt {

/// Of one kernel.
struct LaunchData {
  std::vector<uint8_t> image;  ///< empty where the schedule is in the code
  std::vector<uint16_t> order; ///< rows of the schedule in launch order
};

/// Remembers the last schedule of every layer, so that the next step costs only what differs: host
/// memory of one step's masks (13 MB of 14B at 480p, 76 MB at 720p). Not synchronised.
class LaunchDataReader {
public:
  /// `threads`: 0 for one per CPU.
  LaunchDataReader(const PackageReader &package, uint32_t threads);

  /// What to do with the data of kernels[i]. A failure ends the reading.
  using Make = std::function<Status(size_t i, const LaunchData &data)>;
  using Take = std::function<Status(size_t i, LaunchData data)>;
  /// Reads all, or up to the first failure, which it returns. `make` is called by the threads that
  /// read, `take` by the caller's, layer after layer, while others are still read. Kernels should
  /// come in the order of their steps.
  Status read(std::span<const uint32_t> kernels, const Make &make, const Take &take);

private:
  using Chain = std::pair<uint32_t, uint32_t>; ///< layer and first head
  Result<LaunchData> readOne(uint32_t kernel, ScheduleDecoder &decoder) const;

  const PackageReader &package;
  const uint32_t threads;
  std::map<uint32_t, AnchorGrid> grids; ///< that code images were compiled for
  std::map<Chain, ScheduleDecoder> decoders;
};

} // namespace calibatt

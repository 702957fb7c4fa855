// A profile's heads go through the ordered pool.
#include "calib_profiles/HeadStream.h"

#include "runtime/format/OrderedPool.h"

#include <algorithm>
#include <exception>
#include <string>
#include <thread>

namespace calibatt {

Status streamHeads(uint64_t count, unsigned jobs, const ProduceHead &produce,
                   const ConsumeHead &consume) {
  if (jobs == 0)
    jobs = std::max(1u, std::thread::hardware_concurrency());
  const auto make = [&](size_t index) -> Result<HeadProfile> {
    try {
      return produce(index);
    } catch (const std::exception &e) {
      return Error{std::string("making a head failed: ") + e.what()};
    }
  };
  return runOrdered(count, jobs, make,
                    [&](size_t index, const HeadProfile &head) { return consume(index, head); });
}

} // namespace calibatt

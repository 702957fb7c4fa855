// Threads that take the next index until none is left.
#include "calib_profiles/ParallelFor.h"

#include "runtime/format/Threads.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>

namespace calibatt {

Status parallelFor(uint64_t count, unsigned jobs,
                   const std::function<Status(uint64_t index)> &work) {
  if (jobs == 0)
    jobs = std::max(1u, std::thread::hardware_concurrency());
  std::atomic<uint64_t> next{0};
  std::mutex mutex;
  uint64_t failedAt = count; // guarded by mutex, as is failure
  Status failure;
  const auto run = [&](size_t) {
    for (uint64_t index; (index = next++) < count;) {
      Status status;
      try {
        status = work(index);
      } catch (const std::exception &e) {
        status = Error{e.what()};
      }
      if (status)
        continue;
      std::lock_guard lock(mutex);
      if (index < failedAt) {
        failedAt = index;
        failure = std::move(status);
      }
      next = count; // what is left is not needed
    }
  };
  {
    const auto others =
        startThreads(size_t(std::min<uint64_t>(jobs, std::max<uint64_t>(count, 1))) - 1, run);
    run(0);
  }
  return failure;
}

} // namespace calibatt

// Threads that take the next index until none is left.
#include "calib_profiles/ParallelFor.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace calibatt {

Status parallelFor(uint64_t count, unsigned jobs,
                   const std::function<Status(uint64_t index)> &work) {
  if (jobs == 0)
    jobs = std::max(1u, std::thread::hardware_concurrency());
  std::atomic<uint64_t> next{0};
  std::mutex mutex;
  uint64_t failedAt = count; // guarded by mutex, as is failure
  Status failure;
  auto run = [&] {
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
    std::vector<std::jthread> others;
    try {
      for (uint64_t i = 1; i < std::min<uint64_t>(jobs, count); ++i)
        others.emplace_back(run);
    } catch (const std::system_error &) { // NOLINT(bugprone-empty-catch)
      // Fewer threads do the same work.
    }
    run();
  }
  return failure;
}

} // namespace calibatt

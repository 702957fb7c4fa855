// Work done by several threads and taken in order by one: results do not depend
// on how many threads there are.
#pragma once

#include "runtime/format/Result.h"

#include <algorithm>
#include <condition_variable>
#include <cstddef>
#include <exception>
#include <map>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

namespace calibatt {

/// Calls `work(i)` for i in [0, count) on `jobs` threads and `take(i, value)` on this one,
/// in order of i. At most 2 * `jobs` results wait at a time. The first failure
/// in that order ends it, with all threads joined.
template <typename Work, typename Take>
Status runOrdered(size_t count, size_t jobs, Work work, Take take) {
  using Item = decltype(work(size_t()));
  std::mutex mutex;
  std::condition_variable changed;
  std::map<size_t, Item> ready;
  size_t next = 0, taken = 0;
  bool stopped = false;

  auto run = [&] {
    std::unique_lock lock(mutex);
    while (true) {
      changed.wait(lock, [&] { return stopped || next >= count || next < taken + 2 * jobs; });
      if (stopped || next >= count)
        return;
      size_t index = next++;
      lock.unlock();
      // An exception must not leave a thread; memory is the only one to expect.
      Item item = [&]() -> Item {
        try {
          return work(index);
        } catch (const std::bad_alloc &) {
          return Error{"out of memory"};
        } catch (const std::exception &error) {
          return Error{error.what()};
        }
      }();
      lock.lock();
      ready.emplace(index, std::move(item));
      changed.notify_all();
    }
  };

  std::vector<std::thread> threads;
  threads.reserve(std::min(jobs, count));
  for (size_t i = 0; i < std::min(jobs, count); ++i)
    threads.emplace_back(run);
  Status status;
  for (size_t index = 0; index < count && status; ++index) {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return ready.contains(index); });
    Item item = std::move(ready.extract(index).mapped());
    taken = index + 1;
    lock.unlock();
    changed.notify_all();
    status = item ? take(index, item.take()) : Status(item.takeError());
  }
  {
    std::lock_guard lock(mutex);
    stopped = true;
  }
  changed.notify_all();
  for (std::thread &thread : threads)
    thread.join();
  return status;
}

} // namespace calibatt

// Work done by several threads and taken in order by one: results do not depend
// on how many threads there are.
#pragma once

#include "runtime/format/Result.h"
#include "runtime/format/Threads.h"

#include <algorithm>
#include <condition_variable>
#include <cstddef>
#include <exception>
#include <mutex>
#include <new>
#include <optional>
#include <vector>

namespace calibatt {

/// Calls `work(i)` for i in [0, count) on `jobs` threads and `take(i, value)` on this one,
/// in order of i. At most 2 * `jobs` results wait at a time. The first failure
/// in that order ends it, with all threads joined. Where threads cannot be started, those that were
/// do the work, and without any this one.
template <typename Work, typename Take>
Status runOrdered(size_t count, size_t jobs, Work work, Take take) {
  using Item = decltype(work(size_t()));
  // An exception must not leave a thread; memory is the only one to expect.
  const auto make = [&](size_t index) -> Item {
    try {
      return work(index);
    } catch (const std::bad_alloc &) {
      return Error{"out of memory"};
    } catch (const std::exception &error) {
      return Error{error.what()};
    }
  };
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<std::optional<Item>> ready(
      std::min(2 * jobs, count)); // result i at i modulo its size
  size_t next = 0, taken = 0;
  bool stopped = false;

  const auto run = [&](size_t) {
    std::unique_lock lock(mutex);
    while (true) {
      changed.wait(lock, [&] { return stopped || next >= count || next < taken + ready.size(); });
      if (stopped || next >= count)
        return;
      const size_t index = next++;
      lock.unlock();
      Item item = make(index);
      lock.lock();
      ready[index % ready.size()] = std::move(item);
      changed.notify_all();
    }
  };
  const std::vector<std::jthread> threads = startThreads(std::min(jobs, count), run);
  // Whichever way this is left, threads are told before they are joined.
  struct Stop {
    std::mutex &mutex;
    std::condition_variable &changed;
    bool &stopped;
    ~Stop() {
      const std::lock_guard lock(mutex);
      stopped = true;
      changed.notify_all();
    }
  } stop{mutex, changed, stopped};

  Status status;
  for (size_t index = 0; index < count && status; ++index) {
    Item item = [&] {
      if (threads.empty())
        return make(index);
      std::unique_lock lock(mutex);
      std::optional<Item> &slot = ready[index % ready.size()];
      changed.wait(lock, [&] { return slot.has_value(); });
      Item made = std::move(*slot);
      slot.reset();
      taken = index + 1;
      changed.notify_all();
      return made;
    }();
    status = item ? take(index, item.take()) : Status(item.takeError());
  }
  return status;
}

} // namespace calibatt

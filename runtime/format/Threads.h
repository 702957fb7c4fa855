// Threads to share work, of which a system may give fewer than asked for: a limit on processes, a
// container's, or no memory for stacks.
#pragma once

#include <cstddef>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

namespace calibatt {

/// Starts `count` threads, each of which calls `body(i)` with its index, or as many of them as can
/// be started, which may be none: the caller's own thread has to be able to do the work alone. The
/// result joins them. `body` may not throw.
template <typename Body> std::vector<std::jthread> startThreads(size_t count, const Body &body) {
  std::vector<std::jthread> threads;
  try {
    threads.reserve(count);
    for (size_t i = 0; i < count; ++i)
      threads.emplace_back([body, i] { body(i); });
  } catch (const std::system_error &) { // NOLINT(bugprone-empty-catch): those that run are enough
  } catch (const std::bad_alloc &) {    // NOLINT(bugprone-empty-catch)
  }
  return threads;
}

} // namespace calibatt

// Threads that start together.
#pragma once

#include <barrier>
#include <functional>
#include <thread>
#include <vector>

namespace calibatt::test {

/// Runs the bodies at once, a thread each, and returns when all have ended. They may not CHECK:
/// doctest is not made for it.
inline void runTogether(const std::vector<std::function<void()>> &bodies) {
  std::barrier start(std::ptrdiff_t(bodies.size()));
  std::vector<std::jthread> threads;
  for (const auto &body : bodies)
    threads.emplace_back([&] {
      start.arrive_and_wait();
      body();
    });
}

} // namespace calibatt::test

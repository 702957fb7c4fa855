// The bound on memory of compiles that run at the same time.
#include "compiler/MemoryGate.h"

#include <atomic>
#include <chrono>
#include <doctest/doctest.h>
#include <thread>
#include <vector>

using namespace calibatt;

TEST_CASE("work is admitted within the budget, and what exceeds it runs alone") {
  constexpr uint64_t kBudget = 100;
  MemoryGate gate(kBudget);
  std::atomic<uint64_t> used{0}, inside{0};
  std::atomic<bool> broken{false}, shared{false};
  std::vector<std::thread> threads;
  for (uint64_t thread = 0; thread < 6; ++thread)
    threads.emplace_back([&, thread] {
      for (uint64_t i = 0; i < 40; ++i) {
        const uint64_t bytes = (thread * 37 + i * 11) % 130 + 1; // some larger than the budget
        MemoryGate::Room room(gate, bytes);
        const uint64_t sum = used += bytes, others = inside++;
        if (sum > kBudget && others > 0)
          broken = true;
        if (others > 0)
          shared = true;
        std::this_thread::sleep_for(std::chrono::microseconds(50));
        --inside;
        used -= bytes;
      }
    });
  for (std::thread &thread : threads)
    thread.join();
  CHECK_FALSE(broken);
  CHECK(shared);
}

TEST_CASE("the machine says how much memory is available") {
  CHECK(availableMemory() > (uint64_t(16) << 20));
  CHECK(availableMemory() < (uint64_t(1) << 50));
}

// Bounds how much memory compiles running at the same time may take: an unrolled
// kernel of thousands of visits takes gigabytes, and one per core would not fit.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>

namespace calibatt {

/// Admits work while the sum of what it needs stays within a budget. Work larger
/// than the budget runs alone.
class MemoryGate {
public:
  explicit MemoryGate(uint64_t budgetBytes) : budget(budgetBytes) {}

  /// Room for `bytes`, given back when it goes. Construction waits for it.
  class Room {
  public:
    Room(MemoryGate &gate, uint64_t bytes);
    ~Room();
    Room(const Room &) = delete;
    Room &operator=(const Room &) = delete;

  private:
    MemoryGate &gate;
    const uint64_t bytes;
  };

private:
  const uint64_t budget;
  std::mutex mutex;
  std::condition_variable changed;
  uint64_t used = 0;
};

/// Bytes this machine can still give to processes (MemAvailable of
/// /proc/meminfo); 4 GiB where that cannot be read.
uint64_t availableMemory();

} // namespace calibatt

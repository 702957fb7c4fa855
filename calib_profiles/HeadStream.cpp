// A bounded window of heads between worker threads and one writer.
#include "calib_profiles/HeadStream.h"

#include <condition_variable>
#include <exception>
#include <map>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace calibatt {

namespace {

class HeadWindow {
public:
  HeadWindow(uint64_t count, uint64_t ahead) : count(count), ahead(ahead) {}

  /// The next head to make; false when there is none. Waits while too many are ready.
  bool claim(uint64_t &index) {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return stopped || next == count || next < consumed + ahead; });
    if (stopped || next == count)
      return false;
    index = next++;
    return true;
  }

  void deliver(uint64_t index, Result<HeadProfile> head) {
    std::lock_guard lock(mutex);
    ready.emplace(index, std::move(head));
    changed.notify_all();
  }

  Result<HeadProfile> take(uint64_t index) {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return ready.count(index) != 0; });
    Result<HeadProfile> head = std::move(ready.at(index));
    ready.erase(index);
    consumed = index + 1;
    changed.notify_all();
    return head;
  }

  void stop() {
    std::lock_guard lock(mutex);
    stopped = true;
    changed.notify_all();
  }

private:
  std::mutex mutex;
  std::condition_variable changed;
  std::map<uint64_t, Result<HeadProfile>> ready;
  uint64_t count, ahead, next = 0, consumed = 0;
  bool stopped = false;
};

Result<HeadProfile> produceGuarded(const ProduceHead &produce, uint64_t index) {
  try {
    return produce(index);
  } catch (const std::exception &e) {
    return Error{std::string("making a head failed: ") + e.what()};
  }
}

} // namespace

Status streamHeads(uint64_t count, unsigned jobs, const ProduceHead &produce,
                   const ConsumeHead &consume) {
  if (jobs == 0)
    jobs = std::max(1u, std::thread::hardware_concurrency());
  HeadWindow window(count, 2 * uint64_t(jobs));
  std::vector<std::jthread> workers; // joined on every way out, after stop()
  try {
    for (unsigned i = 0; i < jobs && i < count; ++i)
      workers.emplace_back([&] {
        for (uint64_t index; window.claim(index);)
          window.deliver(index, produceGuarded(produce, index));
      });
  } catch (const std::system_error &e) {
    // Fewer threads make the same heads; without any there is nobody to make them.
    if (workers.empty())
      return Error{std::string("cannot start a thread: ") + e.what()};
  }
  Status status;
  for (uint64_t index = 0; index < count && status; ++index) {
    Result<HeadProfile> head = window.take(index);
    status = head ? consume(index, *head) : Status(head.takeError());
  }
  window.stop();
  return status;
}

} // namespace calibatt

// The pool of the driver: order, bounds, failures.
#include "runtime/format/OrderedPool.h"

#include <atomic>
#include <chrono>
#include <doctest/doctest.h>
#include <stdexcept>

using namespace calibatt;

TEST_CASE("results are taken in order, whatever order the work ends in") {
  for (size_t jobs : {1, 2, 7}) {
    std::vector<size_t> taken;
    Status status = runOrdered(
        40, jobs,
        [](size_t i) -> Result<size_t> {
          std::this_thread::sleep_for(std::chrono::microseconds((i * 7919) % 500));
          return i * i;
        },
        [&](size_t i, size_t square) -> Status {
          CHECK(square == i * i);
          taken.push_back(i);
          return {};
        });
    CHECK(status);
    REQUIRE(taken.size() == 40);
    for (size_t i = 0; i < taken.size(); ++i)
      CHECK(taken[i] == i);
  }
}

TEST_CASE("no work begins far ahead of what was taken") {
  std::atomic<size_t> taken{0}, furthest{0};
  Status status = runOrdered(
      50, 3,
      [&](size_t i) -> Result<size_t> {
        size_t ahead = i - std::min(i, taken.load());
        for (size_t seen = furthest; ahead > seen && !furthest.compare_exchange_weak(seen, ahead);)
          ;
        return i;
      },
      [&](size_t i, size_t) -> Status {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        taken = i + 1;
        return {};
      });
  CHECK(status);
  // Twice the jobs, and one that was let in before `taken` was raised here.
  CHECK(furthest <= 7);
}

TEST_CASE("the first failure in order is the one reported, and ends the work") {
  std::atomic<size_t> begun{0};
  Status status = runOrdered(
      1000, 4,
      [&](size_t i) -> Result<int> {
        ++begun;
        if (i == 5)
          std::this_thread::sleep_for(std::chrono::milliseconds(5));
        if (i == 5 || i == 6)
          return Error{"item " + std::to_string(i)};
        return 1;
      },
      [](size_t, int) -> Status { return {}; });
  REQUIRE(!status);
  CHECK(status.message() == "item 5");
  CHECK(begun < 30);
}

TEST_CASE("a failure of the taker ends it, and an exception of the work is a failure") {
  Status refused = runOrdered(
      10, 2, [](size_t) -> Result<int> { return 1; },
      [](size_t i, int) -> Status { return i == 3 ? Status(Error{"full"}) : Status(); });
  REQUIRE(!refused);
  CHECK(refused.message() == "full");
  Status thrown = runOrdered(
      3, 2, [](size_t) -> Result<int> { throw std::runtime_error("thrown"); },
      [](size_t, int) -> Status { return {}; });
  REQUIRE(!thrown);
  CHECK(thrown.message() == "thrown");
}

TEST_CASE("nothing to do is done") {
  CHECK(runOrdered(
      0, 4, [](size_t) -> Result<int> { return 1; }, [](size_t, int) -> Status { return {}; }));
}

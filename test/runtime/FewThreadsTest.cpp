// A system that gives fewer threads than asked for, or none: everything that shares work among
// threads does all of it with those it gets, and comes to the same.
#include "calib_profiles/HeadStream.h"
#include "calib_profiles/ParallelFor.h"
#include "runtime/format/OrderedPool.h"
#include "test/runtime/FakeCuda.h"
#include "test/runtime/RuntimeSamples.h"
#include "test/runtime/Session.h"

#include <doctest/doctest.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <dlfcn.h>
#include <memory>
#include <new>
#include <pthread.h>
#include <stdexcept>

using namespace calibatt;
using namespace calibatt::test;

namespace {

std::atomic<int> allowed{INT_MAX}; // threads that may still be started
std::atomic<int> refused{0};

// While it lives only so many more threads start, as under RLIMIT_NPROC (which root is not under).
struct ThreadLimit {
  explicit ThreadLimit(int more) {
    allowed = more;
    refused = 0;
  }
  ~ThreadLimit() { allowed = INT_MAX; }
  ThreadLimit(const ThreadLimit &) = delete;
};

} // namespace

// In front of the C library's, for this executable and all that it loads.
extern "C" int pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                              void *(*start)(void *), void *argument) noexcept {
  if (allowed.fetch_sub(1) <= 0) {
    allowed = 0;
    ++refused;
    return EAGAIN;
  }
  using Create = int (*)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
  static const auto create = reinterpret_cast<Create>(dlsym(RTLD_NEXT, "pthread_create"));
  return create(thread, attributes, start, argument);
}

TEST_CASE("a pool without all of its threads takes every result in order, and the first failure") {
  for (const int threads : {0, 1, 3}) {
    CAPTURE(threads);
    const ThreadLimit limit(threads);
    std::vector<size_t> taken;
    CHECK(runOrdered(
        50, 4, [](size_t i) -> Result<size_t> { return i * i; },
        [&](size_t i, size_t square) -> Status {
          CHECK(square == i * i);
          taken.push_back(i);
          return {};
        }));
    REQUIRE(taken.size() == 50);
    for (size_t i = 0; i < taken.size(); ++i)
      CHECK(taken[i] == i);
    CHECK(refused == 1); // it does not go on asking
  }
  const ThreadLimit limit(0);
  Status thrown = runOrdered(
      9, 4,
      [](size_t i) -> Result<int> {
        return i < 3 ? Result<int>(1) : throw std::runtime_error("three");
      },
      [](size_t, int) -> Status { return {}; });
  REQUIRE(!thrown);
  CHECK(thrown.message() == "three");
}

TEST_CASE("an exception of what takes results comes through, with the threads joined") {
  for (const int threads : {0, 2}) {
    const ThreadLimit limit(threads);
    std::atomic<int> made{0};
    CHECK_THROWS_AS((void)runOrdered(
                        1000, 2,
                        [&](size_t) -> Result<int> {
                          ++made;
                          return 1;
                        },
                        [](size_t i, int) -> Status {
                          if (i == 7)
                            throw std::bad_alloc();
                          return {};
                        }),
                    std::bad_alloc);
    CHECK(made < 20);
  }
}

TEST_CASE("indices and heads shared among threads are all done without them") {
  for (const int threads : {0, 1}) {
    CAPTURE(threads);
    {
      const ThreadLimit limit(threads);
      std::vector<std::atomic<int>> done(100);
      CHECK(parallelFor(done.size(), 4, [&](uint64_t i) -> Status {
        ++done[i];
        return {};
      }));
      for (const auto &times : done)
        CHECK(times == 1);
      CHECK(refused == 1);
    }
    const ThreadLimit limit(threads);
    uint64_t next = 0;
    CHECK(streamHeads(
        40, 4,
        [](uint64_t i) -> Result<HeadProfile> {
          HeadProfile head;
          head.stepMask = {uint32_t(i)};
          return head;
        },
        [&](uint64_t i, const HeadProfile &head) -> Status {
          CHECK(i == next++);
          CHECK(head.stepMask[0] == i);
          return {};
        }));
    CHECK(next == 40);
    CHECK(refused == 1);
  }
}

TEST_CASE("the host device computes attention and energies with the threads it gets") {
  Random random;
  CAPTURE(random.seed);
  SampleShape shape;
  shape.tokens = 1100;
  const SamplePackage sample(random, shape);
  const PackageHandle package(sample.path);
  auto options = hostOptions();
  options.host_threads = 4;
  const SessionHandle session(package.package, options);
  const uint32_t blocks = 9;
  for (const int threads : {INT_MAX, 0, 2}) {
    CAPTURE(threads);
    TestCall test(random, CALIBATT_DTYPE_F32, Layout::Contiguous, 1, shape.heads, shape);
    {
      const ThreadLimit limit(threads);
      REQUIRE_MESSAGE(calibatt_attention(session.session, &test.call) == CALIBATT_STATUS_OK,
                      lastError());
      CHECK(refused == (threads == INT_MAX ? 0 : 1));
    }
    const Deviation deviation = compareWithReference(test, sample.schedule(0, 0), 0, sample.scale);
    CHECK(deviation.relativeRms < 1e-5);
    CHECK(deviation.lse < 1e-4);

    const ThreadLimit limit(threads);
    std::vector<float> energies(size_t(shape.heads) * blocks * blocks, -1);
    auto energy = CALIBATT_INIT(calibatt_energy_t);
    energy.energies = energies.data();
    REQUIRE_MESSAGE(calibatt_energy(session.session, &test.call, &energy) == CALIBATT_STATUS_OK,
                    lastError());
    for (size_t row = 0; row < energies.size(); row += blocks) {
      double sum = 0;
      for (uint32_t column = 0; column < blocks; ++column)
        sum += energies[row + column];
      CHECK(sum == doctest::Approx(1).epsilon(1e-5));
    }
  }
}

TEST_CASE("a CUDA session decodes its schedules without threads") {
  FakeCuda &cuda = loadFakeCuda(CALIBATT_FAKE_CUDA);
  Random random;
  CAPTURE(random.seed);
  SampleShape shape;
  shape.layers = 3;
  const SamplePackage sample(random, shape);
  const PackageHandle package(sample.path);
  auto options = hostOptions();
  options.device = "cuda:0";
  options.host_threads = 4;
  for (const int threads : {0, 1}) {
    cuda = FakeCuda{};
    const SessionHandle session(package.package, options);
    const ThreadLimit limit(threads);
    REQUIRE_MESSAGE(calibatt_session_prewarm(session.session, nullptr, 0, 1) == CALIBATT_STATUS_OK,
                    lastError());
    CHECK(refused == 1);
    CHECK(session.stats().data_images == shape.layers * shape.steps);
  }
}

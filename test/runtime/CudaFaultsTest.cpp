// Every call that the CUDA device makes of the driver fails once, in turn: a status that names the
// function, nothing leaked, and a session that goes on.
#include "runtime/src/CudaDriver.h"
#include "test/runtime/FakeCuda.h"
#include "test/runtime/RuntimeSamples.h"
#include "test/runtime/Session.h"

#include <doctest/doctest.h>

#include <cstring>
#include <functional>
#include <set>
#include <sys/wait.h>
#include <unistd.h>

using namespace calibatt;
using namespace calibatt::test;

namespace {

void *const kStream = reinterpret_cast<void *>(0x5000);

calibatt_session_options_t cudaOptions(uint64_t budget = 0) {
  auto options = CALIBATT_INIT(calibatt_session_options_t);
  options.device = "cuda:0";
  options.byte_budget = budget;
  return options;
}

SampleShape perHeadShape() {
  SampleShape shape;
  shape.steps = 4;
  shape.perHead = true; // two launches a call: the second may fail after the first
  shape.tokens = 1500;  // schedules larger than the driver's unit of allocation
  return shape;
}

// What a launch came to, whatever addresses it had.
struct Launched {
  std::string kernel;
  std::array<unsigned, 3> grid{};
  const void *stream = nullptr;
  unsigned headBase = 0;
  std::array<const void *, 4> tensors{};
  std::vector<uint32_t> work;
  std::vector<unsigned char> image;
  bool operator==(const Launched &) const = default;
};

// One run of the scenario: what each of its operations launched when it succeeded, and which
// failed before.
struct Ran {
  std::vector<std::vector<Launched>> launches;
  std::vector<std::string> errors;
  std::vector<calibatt_status_t> statuses;
  int callsBeforeDestroy = 0; ///< of the failing function
  int evictions = 0;          ///< frees before the session is destroyed
  uint64_t bytesOfTwoSteps = 0;
};

struct Faults {
  FakeCuda &cuda = loadFakeCuda(CALIBATT_FAKE_CUDA);
  Random random;
  SampleShape shape = perHeadShape();
  SamplePackage sample{random, shape};
  PackageHandle package{sample.path};
  TestCall one{random, CALIBATT_DTYPE_BF16, Layout::Contiguous, 1, shape.heads, shape};
  TestCall two{random, CALIBATT_DTYPE_BF16, Layout::Contiguous, 2, shape.heads, shape};
  bool hostContext = false; ///< the host program has a context of its own current

  int driver(const char *function) const {
    void *library = dlopen(CALIBATT_FAKE_CUDA, RTLD_NOW | RTLD_NOLOAD);
    return reinterpret_cast<int (*)(void *)>(dlsym(library, function))(nullptr);
  }

  void reset(const std::string &failing = "", int failure = 0, int call = 0) {
    cuda = FakeCuda{};
    if (hostContext)
      driver("cuCtxSetCurrent");
    cuda.calls.clear();
    cuda.failing = failing;
    cuda.failure = failure;
    cuda.failingCall = call;
  }

  // Gives back what a failing driver left with the host program, so that the next run is clean.
  void cleanUp() {
    cuda.failing.clear();
    void *library = dlopen(CALIBATT_FAKE_CUDA, RTLD_NOW | RTLD_NOLOAD);
    reinterpret_cast<int (*)(void *)>(dlsym(library, "fakeCudaCaptureMode"))(&cuda);
    while (cuda.contextDepth > 0)
      driver("cuCtxPopCurrent_v2");
    for (const auto &[address, bytes] : cuda.allocations)
      std::free(reinterpret_cast<void *>(address));
  }

  Launched launched(const FakeLaunch &launch) const {
    Launched seen{launch.kernel, launch.grid, launch.stream, launch.params.head_base, {},
                  launch.work,   launch.image};
    // What follows the image in its allocation is nobody's.
    ScheduleHeader header;
    REQUIRE(seen.image.size() >= sizeof header);
    std::memcpy(&header, seen.image.data(), sizeof header);
    REQUIRE(seen.image.size() >= header.words_offset + 4 * size_t(header.word_count));
    seen.image.resize(header.words_offset + 4 * size_t(header.word_count));
    const TensorMap *maps[] = {&launch.params.q, &launch.params.k, &launch.params.v,
                               &launch.params.o};
    for (size_t i = 0; i < 4; ++i)
      seen.tensors[i] = cuda.maps.at(maps[i]->words[0]).address;
    return seen;
  }

  calibatt_call_t call(const TestCall &tensors, uint32_t step) const {
    calibatt_call_t call = tensors.call;
    call.step = step;
    call.stream = kStream;
    return call;
  }

  // Open, prewarm two steps, calls with two batches, a captured call, calls beyond the byte
  // budget, destroy. An operation that fails is done again, and has to succeed then.
  Ran run(uint64_t budget) {
    Ran ran;
    calibatt_session_t *session = nullptr;
    const auto stats = [&] {
      auto stats = CALIBATT_INIT(calibatt_session_stats_t);
      if (session)
        calibatt_session_stats(session, &stats);
      return stats;
    };
    const auto attention = [&](const TestCall &tensors, uint32_t step, int capturing = 0) {
      return [&, step, capturing] {
        const calibatt_call_t asked = call(tensors, step);
        cuda.capturing = capturing;
        const auto status = calibatt_attention(session, &asked);
        cuda.capturing = 0;
        return status;
      };
    };
    const std::function<calibatt_status_t()> operations[] = {
        [&] {
          const auto options = cudaOptions(budget);
          return calibatt_session_create(package.package, &options, &session);
        },
        [&] {
          const uint32_t steps[] = {0, 1};
          return calibatt_session_prewarm(session, steps, 2, 2);
        },
        attention(two, 0),
        [&] {
          const calibatt_call_t asked = call(two, 0);
          char text[512];
          return calibatt_match(nullptr, session, &asked, text, sizeof text);
        },
        attention(one, 1),
        attention(two, 0, 1),
        attention(two, 2),
        attention(two, 3),
        attention(two, 0, 1),
        [&] {
          const uint32_t step = 1;
          cuda.capturing = 1;
          const auto status = calibatt_session_prewarm(session, &step, 1, 1);
          cuda.capturing = 0;
          return status;
        },
    };
    uint64_t calls = 0, launches = 0;
    for (const auto &operation : operations) {
      size_t before = cuda.launches.size();
      calibatt_status_t status = operation();
      if (status != CALIBATT_STATUS_OK) {
        ran.statuses.push_back(status);
        ran.errors.push_back(lastError());
        CHECK(stats().calls == calls);
        CHECK(stats().launches == launches);
        before = cuda.launches.size();
        status = operation();
      }
      REQUIRE_MESSAGE(status == CALIBATT_STATUS_OK, lastError());
      ran.launches.emplace_back();
      for (size_t i = before; i < cuda.launches.size(); ++i)
        ran.launches.back().push_back(launched(cuda.launches[i]));
      calls += cuda.launches.size() > before;
      launches += cuda.launches.size() - before;
      CHECK(stats().calls == calls);
      CHECK(stats().launches == launches);
      if (ran.launches.size() == 5)
        ran.bytesOfTwoSteps = stats().device_bytes;
      if (budget)
        CHECK(stats().device_bytes <= budget);
    }
    ran.callsBeforeDestroy = cuda.failing.empty() ? 0 : cuda.calls[cuda.failing];
    ran.evictions = cuda.calls["cuMemFree_v2"];
    calibatt_session_destroy(session);
    return ran;
  }
};

// An error that the function might give; which one must not matter.
int errorOf(const std::string &function) {
  static const std::map<std::string, int> errors = {
      {"cuMemAlloc_v2", 2},         {"cuStreamSynchronize", 600}, {"cuCtxPushCurrent_v2", 201},
      {"cuLaunchKernel", 719},      {"cuLibraryGetKernel", 500},  {"cuLibraryLoadData", 209},
      {"cuStreamIsCapturing", 400}, {"cuDeviceGet", 101},         {"cuDeviceGetCount", 100},
      {"cuMemcpyHtoDAsync_v2", 700}};
  const auto found = errors.find(function);
  return found == errors.end() ? 1 : found->second; // CUDA_ERROR_INVALID_VALUE
}

calibatt_status_t statusOf(const std::string &function) {
  if (function == "cuDeviceGetCount")
    return CALIBATT_STATUS_NO_DEVICE;
  return errorOf(function) == kCudaOutOfMemory ? CALIBATT_STATUS_OUT_OF_MEMORY
                                               : CALIBATT_STATUS_DRIVER_ERROR;
}

// Failures that change nothing for the caller, so that no status tells of them. Without an answer
// about the current context, the device takes the primary one and makes it current itself. A
// context that cannot be taken off the thread again stays on it; the call is done by then.
// So is it when the thread's capture mode cannot be given back.
bool isIgnored(const std::string &function, int call) {
  if (function == "cuThreadExchangeStreamCaptureMode")
    return call % 2 == 0; // the thread's own mode is given back: the work is done by then
  return function == "cuCtxGetCurrent" || function == "cuCtxGetDevice" ||
         function == "cuCtxPopCurrent_v2";
}

bool lastErrorHas(const std::string &words) {
  const bool found = lastError().find(words) != std::string::npos;
  if (!found)
    MESSAGE(lastError());
  return found;
}

} // namespace

// First in this program: the driver is opened once for a process.
TEST_CASE("a driver that does not start is told at every attempt") {
  Faults f;
  REQUIRE(f.cuda.calls["cuInit"] == 0);
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    f.cuda.failing = "cuInit";
    f.cuda.failure = 999;
    bool told = true;
    for (int attempt = 0; attempt < 2; ++attempt) {
      const SessionHandle session(f.package.package, cudaOptions());
      told = told && session.status == CALIBATT_STATUS_NO_DEVICE &&
             lastError() == "cuInit: CUDA_ERROR_OF_THE_TEST (999): the test asked for it";
      f.cuda.failing.clear();
    }
    std::_Exit(told && !f.cuda.calls.contains("cuDeviceGet") ? 0 : 1);
  }
  int status = -1;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE("every call of the driver may fail: named, nothing leaked, and done when asked again") {
  Faults f;
  std::set<std::string> failed;
  for (const bool hostContext : {false, true}) {
    CAPTURE(hostContext);
    f.hostContext = hostContext;
    f.reset();
    const uint64_t budget = f.run(0).bytesOfTwoSteps;
    f.cleanUp();
    f.reset();
    const Ran wanted = f.run(budget);
    REQUIRE(wanted.errors.empty());
    REQUIRE(wanted.launches.size() == 10);
    REQUIRE(wanted.evictions > 0);
    const std::map<std::string, int> calls = f.cuda.calls;
    CHECK(f.cuda.allocations.empty());
    f.cleanUp();

    for (const auto &[function, count] : calls)
      for (int call = 1; call <= count; ++call) {
        CAPTURE(function);
        CAPTURE(call);
        failed.insert(function);
        f.reset(function, errorOf(function), call);
        const Ran ran = f.run(budget);
        CHECK(f.cuda.calls[function] >= call);
        CHECK(ran.launches == wanted.launches);
        const bool inDestroy = call > ran.callsBeforeDestroy;
        if (inDestroy || isIgnored(function, call)) {
          CHECK(ran.errors.empty());
        } else {
          REQUIRE(ran.errors.size() == 1);
          const std::string name = function.substr(0, function.find('_'));
          CHECK(ran.errors[0].find(name + ": CUDA_ERROR_OF_THE_TEST (" +
                                   std::to_string(errorOf(function)) + ")") != std::string::npos);
          CHECK(ran.statuses[0] == statusOf(function));
        }
        // Destroying cannot tell; what the driver refuses to take back then is all that is lost,
        // and memory goes with the context at the latest.
        const int lost = f.cuda.lostAllocations + int(f.cuda.allocations.size());
        if (inDestroy && function == "cuCtxPushCurrent_v2")
          CHECK(f.cuda.allocations.empty());
        else
          CHECK(lost == (inDestroy && function == "cuMemFree_v2"));
        CHECK(f.cuda.captureLostBy.empty());
        CHECK(f.cuda.hostAllocations ==
              (inDestroy && (function == "cuMemFreeHost" || function == "cuCtxPushCurrent_v2")));
        // Like the memory, it goes with the context.
        CHECK(f.cuda.streams == (inDestroy && (function == "cuStreamDestroy_v2" ||
                                               function == "cuCtxPushCurrent_v2")));
        CHECK(f.cuda.loadedLibraries == (inDestroy && function == "cuLibraryUnload"));
        CHECK(f.cuda.retained == (function == "cuDevicePrimaryCtxRelease_v2"));
        CHECK(f.cuda.contextDepth == hostContext + (function == "cuCtxPopCurrent_v2"));
        f.cleanUp();
      }
  }
  // All but cuInit, which is called once for a process, and the names of errors: see beside.
#define CALIBATT_CUDA_NAME(member, symbol, parameters) #symbol,
  for (const char *function : {CALIBATT_CUDA_FUNCTIONS(CALIBATT_CUDA_NAME)}) {
#undef CALIBATT_CUDA_NAME
    const std::string name = function;
    CAPTURE(name);
    CHECK(failed.contains(name) ==
          (name != "cuInit" && name != "cuGetErrorName" && name != "cuGetErrorString"));
  }
}

TEST_CASE("an error that the driver has no name for keeps its number") {
  Faults f;
  f.reset("cuMemAlloc_v2", 2);
  f.cuda.namelessErrors = true;
  {
    const SessionHandle session(f.package.package, cudaOptions());
    const calibatt_call_t call = f.call(f.one, 0);
    CHECK(calibatt_attention(session.session, &call) == CALIBATT_STATUS_OUT_OF_MEMORY);
    CHECK(lastErrorHas("cuMemAlloc: unknown error (2): no description"));
  }
  f.cleanUp();
}

TEST_CASE("a load that fails leaves what was prewarmed before ready for capture") {
  Faults f;
  for (const std::string function :
       {"cuMemAlloc_v2", "cuMemcpyHtoDAsync_v2", "cuStreamSynchronize"}) {
    CAPTURE(function);
    f.reset();
    {
      const SessionHandle session(f.package.package, cudaOptions());
      uint32_t step = 0;
      REQUIRE(calibatt_session_prewarm(session.session, &step, 1, 1) == CALIBATT_STATUS_OK);
      step = 1;
      f.cuda.failing = function;
      f.cuda.failure = 700;
      CHECK(calibatt_session_prewarm(session.session, &step, 1, 1) == CALIBATT_STATUS_DRIVER_ERROR);
      f.cuda.capturing = 1;
      calibatt_call_t call = f.call(f.one, 0);
      CHECK_MESSAGE(calibatt_attention(session.session, &call) == CALIBATT_STATUS_OK, lastError());
      call.step = 1;
      CHECK(calibatt_attention(session.session, &call) == CALIBATT_STATUS_NOT_PREWARMED);
      f.cuda.capturing = 0;
      CHECK(session.stats().calls == 1);
    }
    CHECK(f.cuda.allocations.empty());
    f.cleanUp();
  }
}

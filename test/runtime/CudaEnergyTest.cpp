// Calls for energies over the recording driver of FakeCuda.h: what is loaded and launched, where
// the kernels work, and what is refused. The arithmetic is test/device's and test/gpu's.
#include "test/runtime/FakeCuda.h"
#include "test/runtime/RuntimeSamples.h"
#include "test/runtime/Session.h"

#include <doctest/doctest.h>

#include <algorithm>

using namespace calibatt;
using namespace calibatt::test;

namespace {

calibatt_session_options_t cudaOptions() {
  auto options = CALIBATT_INIT(calibatt_session_options_t);
  options.device = "cuda:0";
  return options;
}

SampleShape calibrationShape() {
  SampleShape shape;
  shape.heads = 3;
  shape.calibration = true;
  return shape;
}

/// A clean driver, a package with calibration kernels, and a call of two batch entries. Outputs are
/// addresses that nobody reads.
struct Fixture {
  FakeCuda &cuda = loadFakeCuda(CALIBATT_FAKE_CUDA);
  Random random;
  SampleShape shape;
  SamplePackage sample;
  PackageHandle package{sample.path};
  TestCall test;
  calibatt_energy_t energy = CALIBATT_INIT(calibatt_energy_t);
  static constexpr uint32_t kBlocks = 4, kHeads = 6;

  explicit Fixture(const SampleShape &shape = calibrationShape())
      : shape(shape), sample(random, shape),
        test(random, CALIBATT_DTYPE_BF16, Layout::Padded, 2, shape.heads, shape) {
    cuda = FakeCuda{};
    cuda.processors = 5;
    test.call.stream = reinterpret_cast<void *>(0x5000);
    energy.epsilon = 0.75;
    energy.cover = reinterpret_cast<uint8_t *>(0x30000);
    energy.workspace = reinterpret_cast<void *>(0x1000000);
    energy.workspace_bytes = 1 << 30;
  }

  uint64_t workspace(const calibatt_session_t *session) {
    uint64_t bytes = 0;
    REQUIRE_MESSAGE(calibatt_energy_workspace(const_cast<calibatt_session_t *>(session), &test.call,
                                              &energy, &bytes) == CALIBATT_STATUS_OK,
                    lastError());
    return bytes;
  }
  calibatt_status_t call(calibatt_session_t *session) {
    return calibatt_energy(session, &test.call, &energy);
  }
};

bool lastErrorHas(const std::string &words) {
  const bool found = lastError().find(words) != std::string::npos;
  if (!found)
    MESSAGE(lastError());
  return found;
}

constexpr uint64_t kFloat = sizeof(float);

} // namespace

TEST_CASE("a call for a cover launches the energy kernel and the cover kernel behind it") {
  Fixture f;
  const SessionHandle session(f.package.package, cudaOptions());
  REQUIRE_MESSAGE(session.session, lastError());
  const uint64_t bytes = f.workspace(session.session);
  const uint64_t sums = 5 * Fixture::kBlocks * 128 * kFloat;
  const uint64_t energies = 6 * Fixture::kBlocks * Fixture::kBlocks * kFloat;
  CHECK(bytes == sums + (energies + 255) / 256 * 256);
  CHECK(f.cuda.loadedLibraries == 0);

  f.energy.workspace_bytes = bytes;
  for (int repeat = 0; repeat < 2; ++repeat)
    REQUIRE_MESSAGE(f.call(session.session) == CALIBATT_STATUS_OK, lastError());
  CHECK(f.cuda.loadedLibraries == 2);
  REQUIRE(f.cuda.launches.size() == 4);
  const FakeLaunch &energy = f.cuda.launches[2], &cover = f.cuda.launches[3];
  CHECK(energy.kernel == "calibatt_calibration_energy_0123456789abcdef");
  CHECK(energy.grid == std::array<unsigned, 3>{Fixture::kHeads * Fixture::kBlocks, 1, 1});
  CHECK(energy.block == std::array<unsigned, 3>{384, 1, 1});
  CHECK(energy.sharedBytes == 1000);
  CHECK(energy.stream == f.test.call.stream);
  CHECK(energy.params.lse == f.test.call.lse);
  CHECK(energy.energy.slot_count == 5);
  CHECK(energy.energy.heads == 3);
  CHECK(energy.energy.row_max == nullptr);
  CHECK(energy.energy.sums == f.energy.workspace);
  CHECK(energy.energy.energies == energy.energy.sums + sums / kFloat);
  REQUIRE(f.cuda.allocations.contains(reinterpret_cast<uint64_t>(energy.energy.slots)));
  CHECK(std::count(energy.energy.slots, energy.energy.slots + 5, 0u) == 5);
  CHECK(cover.kernel == "calibatt_calibration_cover_0123456789abcdef");
  CHECK(cover.cover.energies == energy.energy.energies);
  CHECK(cover.cover.cover == f.energy.cover);
  CHECK(cover.cover.rows == Fixture::kHeads * Fixture::kBlocks);
  CHECK(cover.cover.epsilon == 0.75);
  CHECK(cover.grid == std::array<unsigned, 3>{2, 1, 1});
  CHECK(f.cuda.contextDepth == 0);
}

TEST_CASE("energies that are wanted are written to the caller, weighted ones after the norms") {
  Fixture f;
  f.energy.energies = reinterpret_cast<float *>(0x40000);
  f.energy.row_max = reinterpret_cast<float *>(0x50000);
  f.energy.cover = nullptr;
  f.energy.weighted = 1;
  const SessionHandle session(f.package.package, cudaOptions());
  const uint64_t sums = 5 * Fixture::kBlocks * 128 * kFloat;
  CHECK(f.workspace(session.session) == sums + 6 * Fixture::kBlocks * 128 * kFloat);
  REQUIRE_MESSAGE(f.call(session.session) == CALIBATT_STATUS_OK, lastError());
  REQUIRE(f.cuda.launches.size() == 2);
  const FakeLaunch &norms = f.cuda.launches[0], &energy = f.cuda.launches[1];
  CHECK(norms.kernel == "calibatt_calibration_norms_0123456789abcdef");
  CHECK(norms.norms.v == f.test.call.v);
  for (size_t i = 0; i < 3; ++i)
    CHECK(norms.norms.v_strides[i] == 2 * f.test.call.v_strides[i]);
  CHECK(norms.norms.batch == 2);
  CHECK(energy.kernel == "calibatt_calibration_weighted_energy_0123456789abcdef");
  CHECK(energy.energy.norms == norms.norms.norms);
  CHECK(energy.energy.norms == energy.energy.sums + sums / kFloat);
  CHECK(energy.energy.energies == f.energy.energies);
  CHECK(energy.energy.row_max == f.energy.row_max);
}

TEST_CASE("repetition is scored from two kernels of log-sum-exps, where the sums were") {
  SampleShape shape = calibrationShape();
  shape.height = 7;
  Fixture f(shape);
  std::vector<float> scores(Fixture::kHeads);
  f.energy.repetition = scores.data();
  f.test.call.lse = nullptr;
  const SessionHandle session(f.package.package, cudaOptions());
  REQUIRE_MESSAGE(f.call(session.session) == CALIBATT_STATUS_OK, lastError());
  REQUIRE(f.cuda.launches.size() == 5);
  const FakeLaunch &energy = f.cuda.launches[0], &pair = f.cuda.launches[2],
                   &self = f.cuda.launches[3], &score = f.cuda.launches[4];
  CHECK(pair.kernel == "calibatt_calibration_pair_lse_0123456789abcdef");
  CHECK(self.kernel == "calibatt_calibration_self_lse_0123456789abcdef");
  CHECK(score.kernel == "calibatt_calibration_repetition_0123456789abcdef");
  const uint64_t rows = Fixture::kHeads * 420;
  CHECK(pair.grid == energy.grid);
  CHECK(pair.params.q_data == f.test.call.q);
  CHECK(score.grid == std::array<unsigned, 3>{Fixture::kHeads, 1, 1});
  CHECK(score.repetition.pair == pair.lse.lse);
  CHECK(score.repetition.self == self.lse.lse);
  CHECK(self.lse.lse == pair.lse.lse + rows);
  CHECK(score.repetition.lse == energy.params.lse);
  CHECK(energy.params.lse >= self.lse.lse + rows);
  CHECK(score.repetition.lse_batch_stride == 3 * 420);
  CHECK(score.repetition.scores == scores.data());
}

TEST_CASE("a workspace that is too small, not aligned or not there is refused with its size") {
  Fixture f;
  const SessionHandle session(f.package.package, cudaOptions());
  const uint64_t bytes = f.workspace(session.session);
  f.energy.workspace_bytes = bytes - 1;
  CHECK(f.call(session.session) == CALIBATT_STATUS_INVALID_ARGUMENT);
  CHECK(lastErrorHas("wanted " + std::to_string(bytes)));
  f.energy.workspace_bytes = bytes;
  f.energy.workspace = reinterpret_cast<void *>(0x1000010);
  CHECK(f.call(session.session) == CALIBATT_STATUS_INVALID_ARGUMENT);
  f.energy.workspace = nullptr;
  CHECK(f.call(session.session) == CALIBATT_STATUS_INVALID_ARGUMENT);
  CHECK(f.cuda.launches.empty());
}

TEST_CASE("a package without calibration kernels says what makes them") {
  SampleShape shape;
  Fixture f(shape);
  const SessionHandle session(f.package.package, cudaOptions());
  CHECK(f.call(session.session) == CALIBATT_STATUS_MISMATCH);
  CHECK(lastErrorHas("has no calibration kernel 'energy': calibatt compile --calibration"));
}

TEST_CASE("under capture the kernels have to be loaded, and then are only launched") {
  Fixture f;
  const SessionHandle session(f.package.package, cudaOptions());
  f.cuda.capturing = 1;
  CHECK(f.call(session.session) == CALIBATT_STATUS_NOT_PREWARMED);
  CHECK(f.cuda.loadedLibraries == 0);
  f.cuda.capturing = 0;
  REQUIRE(f.call(session.session) == CALIBATT_STATUS_OK);
  const auto allocations = f.cuda.allocations;
  f.cuda.capturing = 1;
  CHECK(f.call(session.session) == CALIBATT_STATUS_OK);
  CHECK(f.cuda.allocations == allocations);
  CHECK(f.cuda.launches.size() == 4);
}

TEST_CASE("every call of the driver for energies may fail: named, nothing leaked, done again") {
  Fixture f;
  f.energy.weighted = 1;
  for (const std::string function :
       {"cuTensorMapEncodeTiled", "cuStreamIsCapturing", "cuLibraryLoadData", "cuLibraryGetKernel",
        "cuKernelGetFunction", "cuKernelSetAttribute", "cuMemAlloc_v2", "cuMemcpyHtoDAsync_v2",
        "cuStreamCreate", "cuStreamSynchronize", "cuLaunchKernel"})
    for (int call = 1; call <= 3; ++call) {
      CAPTURE(function);
      CAPTURE(call);
      f.cuda = FakeCuda{};
      {
        const SessionHandle session(f.package.package, cudaOptions());
        REQUIRE_MESSAGE(session.session, lastError());
        f.cuda.failing = function;
        f.cuda.failure = 700;
        f.cuda.failingCall = call;
        calibatt_status_t status = f.call(session.session);
        const bool failed = f.cuda.calls[function] >= call;
        CHECK((status == CALIBATT_STATUS_DRIVER_ERROR) == failed);
        if (failed)
          CHECK(lastErrorHas(function.substr(0, function.find('_')) + ": CUDA_ERROR_OF_THE_TEST"));
        f.cuda.failing.clear();
        f.cuda.launches.clear();
        REQUIRE_MESSAGE(f.call(session.session) == CALIBATT_STATUS_OK, lastError());
        CHECK(f.cuda.launches.size() == 3);
      }
      CHECK(f.cuda.allocations.empty());
      CHECK(f.cuda.lostAllocations == 0);
      CHECK(f.cuda.loadedLibraries == 0);
      CHECK(f.cuda.contextDepth == 0);
    }
}

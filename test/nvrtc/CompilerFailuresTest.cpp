// What the compiler refuses, and in which words.
#include "Nvrtc.h"
#include "codegen/CudaToolkit.h"
#include "codegen/Fatbin.h"

#include <chrono>
#include <cstdlib>
#include <thread>

using namespace calibatt;
using namespace calibatt::test;

namespace {

bool contains(const std::string &text, const std::string &part) {
  return text.find(part) != std::string::npos;
}

/// An environment variable, set while this lives.
class Variable {
public:
  Variable(const char *name, const char *value) : name(name) {
    if (const char *old = std::getenv(name))
      before = old;
    setenv(name, value, 1);
  }
  ~Variable() { before ? setenv(name, before->c_str(), 1) : unsetenv(name); }

private:
  const char *name;
  std::optional<std::string> before;
};

} // namespace

TEST_CASE("a syntax error comes back with its line") {
  auto kernel = nvrtc().compile("extern \"C\" __global__ void broken() {\n  int x = ;\n}\n",
                                "broken", sm90a());
  REQUIRE(!kernel);
  CHECK(contains(kernel.message(), "broken: NVRTC V"));
  CHECK(contains(kernel.message(), "kernel.cu(2): error"));
}

TEST_CASE("a header that is not in the device library is an error") {
  auto kernel = nvrtc().compile("#include <cuda_runtime.h>\n", "none", sm90a());
  REQUIRE(!kernel);
  CHECK(contains(kernel.message(), "cuda_runtime.h"));
}

TEST_CASE("a kernel without the expected entry is an error") {
  auto kernel = nvrtc().compile("extern \"C\" __global__ void other() {}\n", "wanted", sm90a());
  REQUIRE(!kernel);
  CHECK(contains(kernel.message(), "wanted"));
}

TEST_CASE("wgmma whose accumulator is touched in flight fails as serialised") {
  const char *source = R"(
#include "ptx/wgmma.cuh"
extern "C" __global__ void __launch_bounds__(128, 1)
touched(float *out, unsigned long long a, unsigned long long b) {
  float d[64] = {};
  calibatt::ptx::wgmmaFence();
  calibatt::ptx::wgmmaSS(d, a, b, true);
  calibatt::ptx::wgmmaCommit();
  d[0] += out[0]; // before the wait
  calibatt::ptx::wgmmaWait<0>();
  for (int i = 0; i < 64; ++i)
    out[threadIdx.x * 64 + i] = d[i];
}
)";
  auto kernel = nvrtc().compile(source, "touched", sm90a());
  REQUIRE(!kernel);
  CHECK(contains(kernel.message(), "touched: wgmma serialised: "));
  CHECK(contains(kernel.message(), "C75"));
}

TEST_CASE("the same wgmma compiles when the wait comes first") {
  const char *source = R"(
#include "ptx/wgmma.cuh"
extern "C" __global__ void __launch_bounds__(128, 1)
waited(float *out, unsigned long long a, unsigned long long b) {
  float d[64] = {};
  calibatt::ptx::wgmmaFence();
  calibatt::ptx::wgmmaSS(d, a, b, true);
  calibatt::ptx::wgmmaCommit();
  calibatt::ptx::wgmmaWait<0>();
  calibatt::ptx::wgmmaPin(d);
  for (int i = 0; i < 64; ++i)
    out[threadIdx.x * 64 + i] = d[i];
}
)";
  auto kernel = nvrtc().compile(source, "waited", sm90a());
  CHECK_MESSAGE(kernel, (kernel ? "" : kernel.message()));
}

TEST_CASE("spills are counted, not refused") {
  // 200 values that all live across a barrier do not fit in 32 registers.
  const char *source = R"(
extern "C" __global__ void __launch_bounds__(1024, 2) crowded(float *data) {
  float v[200];
#pragma unroll
  for (int i = 0; i < 200; ++i)
    v[i] = data[threadIdx.x + 1024 * i];
  __syncthreads();
#pragma unroll
  for (int i = 0; i < 200; ++i)
    data[threadIdx.x * 200 + (199 - i)] = v[i] * v[(i * 7) % 200];
}
)";
  auto kernel = nvrtc().compile(source, "crowded", sm90a());
  REQUIRE_MESSAGE(kernel, (kernel ? "" : kernel.message()));
  CHECK(kernel->report.spillStores > 0);
  CHECK(kernel->report.spillLoads > 0);
  CHECK(kernel->report.registers <= 32);
}

TEST_CASE("a cancelled compile fails and says so") {
  std::atomic<bool> cancel = true;
  auto kernel =
      nvrtc().compile("extern \"C\" __global__ void stopped() {}\n", "stopped", sm90a(), &cancel);
  REQUIRE(!kernel);
  CHECK(contains(kernel.message(), "stopped: cancelled"));
  cancel = false;
  CHECK(
      nvrtc().compile("extern \"C\" __global__ void stopped() {}\n", "stopped", sm90a(), &cancel));
}

TEST_CASE("an NVRTC that is named but missing is one line that names it") {
  Variable variable("CALIBATT_NVRTC", "/nonexistent/libnvrtc.so.13");
  auto compiler = CudaCompiler::load();
  REQUIRE(!compiler);
  CHECK(contains(compiler.message(), "$CALIBATT_NVRTC: /nonexistent/libnvrtc.so.13"));
  CHECK(!contains(compiler.message(), "\n"));
}

TEST_CASE("a library that is not NVRTC is refused for what it lacks") {
  Variable variable("CALIBATT_NVRTC", "libm.so.6");
  auto compiler = CudaCompiler::load();
  REQUIRE(!compiler);
  CHECK(compiler.message() == "libm.so.6: no symbol nvrtcVersion");
}

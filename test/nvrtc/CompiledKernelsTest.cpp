// Every form of a schedule, compiled: what the code is made of, counted in the PTX.
#include "Nvrtc.h"
#include "PtxFlow.h"
#include "test/device/SamplePlans.h"

#include <fmt/format.h>
#include <future>

using namespace calibatt;
using namespace calibatt::test;

namespace {

CompiledKernel compileSample(const SamplePlan &sample) {
  std::string symbol = kernelSymbol(sample.plan);
  auto kernel = nvrtc().compile(emitKernel(sample.plan), symbol, sm90a());
  REQUIRE_MESSAGE(kernel, (kernel ? "" : kernel.message()));
  CHECK(kernel->report.registers == 168); // 384 threads share the whole register file
  CHECK(kernel->report.spillStores == 0);
  CHECK(kernel->report.spillLoads == 0);
  CHECK(kernel->report.stackBytes == 0);
  CHECK(kernel->codeBytes > 4096);
  CHECK(kernel->codeBytes < kernel->cubin.size());
  CHECK(kernel->ptx.find(".entry " + symbol + "(") != std::string::npos);
  return kernel.take();
}

size_t classVisits(const KernelPlan &plan) {
  size_t visits = 0;
  for (const std::vector<uint16_t> &blocks : plan.classes)
    visits += blocks.size();
  return visits;
}

/// The runs of all classes as the producer's immediates (packRun).
std::vector<uint32_t> classRuns(const KernelPlan &plan) {
  std::vector<uint32_t> runs;
  for (const std::vector<uint16_t> &blocks : plan.classes)
    for (size_t i = 0, n; i < blocks.size(); i += n) {
      for (n = 1; i + n < blocks.size() && blocks[i + n] + n == blocks[i];)
        ++n;
      runs.push_back(packRun(uint32_t(blocks[i] + 1 - n) * kBlock, uint32_t(n)));
    }
  return runs;
}

/// Whether an instruction has the number as an operand.
bool hasImmediate(const std::string &ptx, uint32_t value) {
  std::string text = fmt::format(" {}", value);
  return ptx.find(text + ",") != std::string::npos || ptx.find(text + ";") != std::string::npos;
}

/// QK has head_dim / 16 instructions, PV one for each 16 of 128 keys.
size_t wgmmaPerVisit(int headDim) { return size_t(headDim) / 16 + 8; }

unsigned freshSeed() {
  unsigned seed = std::random_device{}();
  MESSAGE("seed " << seed);
  return seed;
}

} // namespace

TEST_CASE("full has one run of wgmma a visit and no loop at all") {
  for (int headDim : {64, 128}) {
    CAPTURE(headDim);
    SamplePlan sample = makeSample("full", Form::Full, headDim, 300, 1, 0.6, freshSeed());
    CompiledKernel kernel = compileSample(sample);
    size_t visits = classVisits(sample.plan);
    CHECK(countWgmma(kernel.ptx) == visits * wgmmaPerVisit(headDim));
    CHECK(countLoads(kernel.ptx) == 1 + 2 * visits); // Q once, K and V a visit
    for (const PtxLoop &loop : ptxLoops(kernel.ptx))
      FAIL_CHECK("a loop at " << loop.label << " with " << loop.wgmma << " wgmma");
  }
}

TEST_CASE("schedule loads in one loop whose starts and trip counts are immediates") {
  for (int headDim : {64, 128}) {
    CAPTURE(headDim);
    SamplePlan sample = makeSample("schedule", Form::Schedule, headDim, 900, 2, 0.6, freshSeed());
    CompiledKernel kernel = compileSample(sample);
    CHECK(countLoads(kernel.ptx) == 4); // Q; K and V of a visit, and the last V
    size_t computing = 0, loading = 0;
    for (const PtxLoop &loop : ptxLoops(kernel.ptx)) {
      computing += loop.wgmma == wgmmaPerVisit(headDim);
      loading += loop.loads > 0;
      CHECK((loop.wgmma == 0 || loop.loads == 0));
    }
    CHECK(computing == 1);
    CHECK(loading >= 2); // over the runs of a row, over the blocks of a run
    for (uint32_t run : classRuns(sample.plan))
      CHECK_MESSAGE(hasImmediate(kernel.ptx, run), run);
    // No schedule in memory: what is read is the tile and its row class.
    CHECK(countLines(kernel.ptx, "ld.global") == 2);
    CHECK(countLines(kernel.ptx, "ld.global.nc.u16") == 1);
    for (const char *memory : {"ld.const", "ld.local", "st.local", "call"})
      CHECK_MESSAGE(countLines(kernel.ptx, memory) == 0, memory);
  }
}

TEST_CASE("schedule takes tens of bytes a run, and no stack, where a site has thousands") {
  SamplePlan sample = makeSample("480p", Form::Schedule, 128, 32760, 1, 0.04, freshSeed());
  size_t classes = sample.plan.classes.size(), runs = classRuns(sample.plan).size();
  CompiledKernel kernel = compileSample(sample);
  CAPTURE(runs);
  CHECK(classes == 256);
  CHECK(runs > 2000);
  CHECK(kernel.codeBytes < 32768 + 256 * classes + 40 * runs);
}

TEST_CASE("runs and table walk data, with the same code for every schedule") {
  for (Form form : {Form::Runs, Form::Table})
    for (int headDim : {64, 128}) {
      CAPTURE(headDim);
      SamplePlan sample = makeSample("data", form, headDim, 420, 2, 0.6, 7);
      CompiledKernel kernel = compileSample(sample);
      bool computes = false, loads = false;
      for (const PtxLoop &loop : ptxLoops(kernel.ptx)) {
        computes |= loop.wgmma == wgmmaPerVisit(headDim);
        loads |= loop.loads > 0;
      }
      CHECK(computes);
      CHECK(loads);
      SamplePlan other = makeSample("data", form, headDim, 420, 2, 0.9, 7);
      CHECK(kernelSymbol(other.plan) == kernelSymbol(sample.plan));
    }
}

TEST_CASE("two compiles of one source give the same bytes, also side by side") {
  SamplePlan sample = makeSample("runs", Form::Runs, 64, 420, 1, 0.6, 3);
  SamplePlan other = makeSample("table", Form::Table, 64, 420, 1, 0.6, 3);
  auto beside = std::async(std::launch::async, [&] {
    return nvrtc().compile(emitKernel(other.plan), kernelSymbol(other.plan), sm90a());
  });
  CompiledKernel first = compileSample(sample);
  REQUIRE(beside.get());
  CompiledKernel second = compileSample(sample);
  CHECK(first.cubin == second.cubin);
  CHECK(first.ptx == second.ptx);
  CHECK(first.report == second.report);
}

TEST_CASE("the loop finder tells loops from jumps to a shared end") {
  const std::string straight = "$L_0:\n bra.uni $L_2;\n$L_1:\n ret;\n$L_2:\n bra.uni $L_1;\n";
  CHECK(ptxLoops(straight).empty());
  const std::string loop = "$L_0:\n wgmma.mma_async.x;\n @%p0 bra $L_0;\n ret;\n";
  REQUIRE(ptxLoops(loop).size() == 1);
  CHECK(ptxLoops(loop)[0].wgmma == 1);
  const std::string table = "$L_0:\n cp.async.bulk.tensor.5d.shared;\n"
                            "$L_t: .branchtargets $L_0, $L_1;\n brx.idx %r0, $L_t;\n$L_1:\n ret;\n";
  REQUIRE(ptxLoops(table).size() == 1);
  CHECK(ptxLoops(table)[0].loads == 1);
  const std::string wait = "{\nmbarrier_wait:\n bra mbarrier_wait;\n}\n ret;\n";
  CHECK(ptxLoops(wait).empty());
}

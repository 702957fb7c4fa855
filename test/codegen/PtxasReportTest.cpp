// Logs as NVRTC 13.0 writes them, and what is read from them.
#include "codegen/PtxasReport.h"

#include <doctest/doctest.h>

using namespace calibatt;

TEST_CASE("registers, spills, stack and shared memory of a kernel are read") {
  auto report = parsePtxasLog(
      "ptxas info    : (C7519) warpgroup.arrive is injected in around line 1268 by compiler to "
      "allow use of registers in GMMA in function 'k'\n"
      "ptxas info    : 4220 bytes gmem\n"
      "ptxas info    : Compiling entry function 'k' for 'sm_90a'\n"
      "ptxas info    : Function properties for k\n"
      "ptxas         .     16 bytes stack frame, 24 bytes spill stores, 28 bytes spill loads\n"
      "ptxas info    : Used 168 registers, used 16 barriers, 2048 bytes smem, 400 bytes cmem[0]\n"
      "ptxas info    : Compile time = 832.620 ms\n",
      "k");
  REQUIRE(report);
  CHECK(*report == PtxasReport{.registers = 168,
                               .spillStores = 24,
                               .spillLoads = 28,
                               .stackBytes = 16,
                               .staticSmem = 2048});
}

TEST_CASE("spills of called functions count, registers are those of the entry") {
  auto report = parsePtxasLog(
      "ptxas info    : Compiling entry function 'k' for 'sm_90a'\n"
      "ptxas info    : Function properties for k\n"
      "    32 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n"
      "ptxas info    : Used 168 registers, used 16 barriers, 32 bytes cumulative stack size\n"
      "ptxas info    : Function properties for produce_0\n"
      "    8 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads\n"
      "ptxas info    : Function properties for produce_1\n"
      "    40 bytes stack frame, 4 bytes spill stores, 4 bytes spill loads\n",
      "k");
  REQUIRE(report);
  CHECK(report->registers == 168);
  CHECK(report->spillStores == 8);
  CHECK(report->spillLoads == 16);
  CHECK(report->stackBytes == 40);
}

TEST_CASE("every C75xx message but C7519 means serialised wgmma") {
  const std::string kernel = "ptxas info    : Compiling entry function 'k' for 'sm_90a'\n"
                             "ptxas info    : Used 90 registers\n";
  for (const char *code : {"C7504", "C7508", "C7510", "C7512", "C7513", "C7514", "C7517"}) {
    CAPTURE(code);
    std::string message = std::string("ptxas info    : (") + code +
                          ") Potential Performance Loss: wgmma.mma_async instructions are "
                          "serialized due to a function call in the function 'k'";
    auto report = parsePtxasLog(message + "\n" + kernel, "k");
    REQUIRE(report);
    REQUIRE(report->serialised.size() == 1);
    CHECK(report->serialised[0] == message);
  }
  auto fence =
      parsePtxasLog("ptxas info    : (C7519) warpgroup.arrive is injected\n" + kernel, "k");
  REQUIRE(fence);
  CHECK(fence->serialised.empty());
}

TEST_CASE("a symbol that contains C75 is no message") {
  auto report =
      parsePtxasLog("ptxas info    : Compiling entry function 'calibatt_runs_0C7512' for 'sm_90a'\n"
                    "ptxas info    : Used 40 registers\n",
                    "calibatt_runs_0C7512");
  REQUIRE(report);
  CHECK(report->registers == 40);
  CHECK(report->serialised.empty());
}

TEST_CASE("a log without the entry is an error that names it") {
  const char *logs[] = {"", "ptxas info    : Used 40 registers\n",
                        "ptxas info    : Compiling entry function 'other' for 'sm_90a'\n"
                        "ptxas info    : Used 40 registers\n",
                        "ptxas info    : Compiling entry function 'k' for 'sm_90a'\n"
                        "ptxas info    : Used 99999999999 registers\n"};
  for (const char *log : logs) {
    auto report = parsePtxasLog(log, "k");
    REQUIRE(!report);
    CHECK(report.message() == "k: the compiler's log has no register count for it");
  }
}

// mbarrier: the phase barriers between the TMA producer and the consumers.
// A barrier's phase of parity P has completed when try_wait.parity P is true;
// on a fresh barrier P = 1 passes and P = 0 blocks.
#pragma once

#include "types.cuh"

namespace calibatt::ptx {

/// mbarrier.init: `count` arrivals complete a phase.
CALIBATT_DEVICE void mbarrierInit(u32 barrier, u32 count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(count));
}

/// fence.mbarrier_init: makes the inits visible to the async proxy.
CALIBATT_DEVICE void fenceMbarrierInit() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

/// mbarrier.arrive
CALIBATT_DEVICE void mbarrierArrive(u32 barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

/// mbarrier.arrive.expect_tx: one arrival, and `bytes` of TMA traffic to wait for.
CALIBATT_DEVICE void mbarrierArriveExpectTx(u32 barrier, u32 bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
               : "memory");
}

/// mbarrier.try_wait.parity, repeated until the phase has completed. The loop is
/// inside the assembly: as a C++ loop it costs the wgmma loop its registers.
/// With Watchdog it traps after 2^22 tries instead of hanging.
template <bool Watchdog> CALIBATT_DEVICE void mbarrierWait(u32 barrier, u32 parity) {
  if constexpr (Watchdog) {
    asm volatile("{\n"
                 ".reg .pred done;\n"
                 ".reg .pred over;\n"
                 ".reg .u32 tries;\n"
                 "mov.u32 tries, 0;\n"
                 "mbarrier_wait:\n"
                 "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
                 "@done bra mbarrier_wait_done;\n"
                 "add.u32 tries, tries, 1;\n"
                 "setp.gt.u32 over, tries, 4194304;\n"
                 "@over trap;\n"
                 "bra mbarrier_wait;\n"
                 "mbarrier_wait_done:\n"
                 "}" ::"r"(barrier),
                 "r"(parity)
                 : "memory");
  } else {
    asm volatile("{\n"
                 ".reg .pred done;\n"
                 "mbarrier_wait:\n"
                 "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
                 "@done bra mbarrier_wait_done;\n"
                 "bra mbarrier_wait;\n"
                 "mbarrier_wait_done:\n"
                 "}" ::"r"(barrier),
                 "r"(parity)
                 : "memory");
  }
}

} // namespace calibatt::ptx

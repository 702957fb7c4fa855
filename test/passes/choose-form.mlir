// The form, its spec and the sentence that explains it.
// RUN: calibatt-opt %s --sattn-choose-form | FileCheck %s --check-prefixes=CHECK,FULL
// RUN: calibatt-opt %s --sattn-choose-form=unroll-budget-bytes=8000 | FileCheck %s --check-prefixes=CHECK,SCHEDULE
// RUN: calibatt-opt %s --sattn-choose-form="unroll-budget-bytes=0" | FileCheck %s --check-prefixes=CHECK,NONE
// RUN: calibatt-opt %s --sattn-choose-form=unroll-budget-seconds=0.6 | FileCheck %s --check-prefixes=CHECK,SECONDS
// RUN: calibatt-opt %s --sattn-choose-form="form=full unroll-budget-bytes=8000" 2>&1 | FileCheck %s --check-prefixes=FORCED
// RUN: calibatt-opt %s --sattn-choose-form=form=runs | FileCheck %s --check-prefixes=CHECK,RUNS
// RUN: not calibatt-opt %s --sattn-choose-form=form=best 2>&1 | FileCheck %s --check-prefix=WORD

// CHECK: sattn.kernel @k
// FULL-SAME: form full target "sm_90a" spec <head_dim = 64, tokens = 300, scale = 1.250000e-01 : f32, stages = 2, ping_pong = true, lazy_rescale = true, watchdog = false>
// FULL-SAME: reason = "auto: full is predicted at {{[0-9.]+}} us; schedule is predicted at {{[0-9.]+}} us; runs is predicted at {{[0-9.]+}} us"
// SCHEDULE-SAME: form schedule
// SCHEDULE-SAME: full is over the budget (32000 bytes of unrolled code, budget 8000)
// Three runs round up to as many bytes as two bitmap words.
// NONE-SAME: form runs
// NONE-SAME: reason = "auto: runs is predicted at {{[0-9.]+}} us and its data image is 112 bytes (table: 112); full is over the budget {{.*}}; schedule is over the budget
// SECONDS-SAME: form runs
// SECONDS-SAME: full is over the budget (0.8 s to compile, budget 0.6)
// RUNS-SAME: form runs
// RUNS-SAME: reason = "form runs was asked for"
// The dense fallback never changes.
// CHECK: sattn.kernel @dense dense
// CHECK-SAME: form runs
// CHECK-SAME: reason = "the dense fallback is always runs"

// FORCED: warning: form full was asked for, over the budget: 32000 bytes of unrolled code, budget 8000
// FORCED: sattn.kernel @k {{.*}} form full

// WORD: error: form is 'best', wanted auto, full, schedule, runs or table
module attributes {sattn.problem = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 1, heads = 1, steps = 1, head_dim = 64, block = 128, scale = 0.125 : f64>} {
  sattn.rows @rows heads 1 rows 3 cols 3 classes 2 class_of dense_resource<class_of> : tensor<3xi32> bits dense_resource<bits> : tensor<2xi8>
    runs dense_resource<runs> : tensor<6xi16> begins dense_resource<begins> : tensor<3xi32>
  sattn.kernel @k layer 0 step 0 heads 0 count 1 rows @rows
  sattn.kernel @dense dense layer 0 step 0 heads 0 count 1 rows @rows
}

{-#
  dialect_resources: {
    builtin: {
      class_of: "0x04000000000000000100000001000000",
      bits: "0x010000000305",
      runs: "0x02000000000002000200010000000100",
      begins: "0x04000000000000000100000003000000"
    }
  }
#-}

// One visit a key block, from the last; the short block is the tail. Data forms stay as they are.
// RUN: calibatt-opt %s --sattn-unroll-schedule | FileCheck %s

// CHECK: sattn.kernel @full {{.*}} {
// CHECK-NEXT: sattn.row_class 0 {
// CHECK-NEXT:   sattn.visit 1
// CHECK-NEXT:   sattn.visit 0
// CHECK-NEXT: }
// CHECK-NEXT: sattn.row_class 1 {
// CHECK-NEXT:   sattn.visit 2 tail
// CHECK-NEXT:   sattn.visit 0
// CHECK-NEXT: }
// CHECK-NEXT: }
// CHECK-NEXT: sattn.kernel @runs
// CHECK-NOT: sattn.visit
module attributes {sattn.problem = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 1, heads = 1, steps = 1, head_dim = 64, block = 128, scale = 0.125 : f64>} {
  sattn.rows @rows heads 1 rows 3 cols 3 classes 2 class_of dense_resource<class_of> : tensor<3xi32> bits dense_resource<bits> : tensor<2xi8>
  sattn.kernel @full layer 0 step 0 heads 0 count 1 rows @rows form full target "sm_90a"
    spec <head_dim = 64, tokens = 300, scale = 0.125 : f32, stages = 2, ping_pong = true, lazy_rescale = true, watchdog = false>
  sattn.kernel @runs layer 0 step 0 heads 0 count 1 rows @rows form runs target "sm_90a"
    spec <head_dim = 64, tokens = 300, scale = 0.125 : f32, stages = 2, ping_pong = true, lazy_rescale = true, watchdog = false>
}

{-#
  dialect_resources: {
    builtin: {
      class_of: "0x04000000000000000100000001000000",
      bits: "0x010000000305"
    }
  }
#-}

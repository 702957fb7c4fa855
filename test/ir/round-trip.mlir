// Every op, printed, parsed and printed again; also through the generic form.
// RUN: calibatt-opt %s | calibatt-opt | FileCheck %s
// RUN: calibatt-opt %s --mlir-print-op-generic | calibatt-opt | FileCheck %s

// CHECK-LABEL: module attributes
// CHECK-SAME: sattn.problem = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 1.250000e-01 : f64>
// CHECK-SAME: sattn.remarks = ["something to hear"]
module attributes {sattn.problem = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>, sattn.remarks = ["something to hear"]} {
  // CHECK: sattn.mask @mask_0 3 x 3 dense_resource<mask_0> : tensor<3xi8>
  sattn.mask @mask_0 3 x 3 dense_resource<mask_0> : tensor<3xi8>
  // CHECK: sattn.site layer 0 head 0 step 0 mask @mask_0 kept 5.000000e-01 density 2.500000e-01 repetition 1.250000e-01
  sattn.site layer 0 head 0 step 0 mask @mask_0 kept 0.5 density 0.25 repetition 0.125
  // CHECK: sattn.site layer 0 head 1 step 0 repetitive kept 1.000000e+00 density 1.000000e+00 repetition 8.750000e-01
  sattn.site layer 0 head 1 step 0 repetitive kept 1.0 density 1.0 repetition 0.875
  // CHECK: sattn.rows @plain heads 1 rows 3 cols 3 classes 2 class_of dense_resource<class_of> : tensor<3xi32> bits dense_resource<bits> : tensor<2xi8>
  // CHECK-NOT: runs
  sattn.rows @plain heads 1 rows 3 cols 3 classes 2 class_of dense_resource<class_of> : tensor<3xi32> bits dense_resource<bits> : tensor<2xi8>
  // CHECK: sattn.rows @rows {{.*}} runs dense_resource<runs> : tensor<6xi16> begins dense_resource<begins> : tensor<3xi32>
  sattn.rows @rows heads 1 rows 3 cols 3 classes 2 class_of dense_resource<class_of> : tensor<3xi32> bits dense_resource<bits> : tensor<2xi8>
    runs dense_resource<runs> : tensor<6xi16> begins dense_resource<begins> : tensor<3xi32>
  // CHECK: sattn.kernel @undecided layer 0 step 0 heads 1 count 1 rows @plain{{$}}
  sattn.kernel @undecided layer 0 step 0 heads 1 count 1 rows @plain
  // CHECK: sattn.kernel @dense dense layer 0 step 0 heads 0 count 1 rows @rows form runs target "sm_90a" spec <head_dim = 64, tokens = 300, scale = 1.250000e-01 : f32, stages = 2, ping_pong = true, lazy_rescale = false, watchdog = false> attributes {reason = "because"}{{$}}
  sattn.kernel @dense dense layer 0 step 0 heads 0 count 1 rows @rows form runs target "sm_90a"
    spec <head_dim = 64, tokens = 300, scale = 0.125 : f32, stages = 2, ping_pong = true, lazy_rescale = false, watchdog = false>
    attributes {reason = "because"}
  // CHECK: sattn.kernel @unrolled layer 0 step 0 heads 0 count 1 rows @rows form full {{.*}} order dense_resource<order> : tensor<3xi16> {
  sattn.kernel @unrolled layer 0 step 0 heads 0 count 1 rows @rows form full target "sm_90a"
    spec <head_dim = 64, tokens = 300, scale = 0.125 : f32, stages = 2, ping_pong = true, lazy_rescale = true, watchdog = false>
    order dense_resource<order> : tensor<3xi16> {
    // CHECK-NEXT: sattn.row_class 0 {
    // CHECK-NEXT:   sattn.visit 2 tail
    // CHECK-NEXT:   sattn.visit 1
    // CHECK-NEXT:   sattn.visit 0
    // CHECK-NEXT: }
    sattn.row_class 0 {
      sattn.visit 2 tail
      sattn.visit 1
      sattn.visit 0
    }
    // CHECK-NEXT: sattn.row_class 1 {
    // CHECK-NEXT:   sattn.visit 2 tail
    // CHECK-NEXT:   sattn.visit 0
    sattn.row_class 1 {
      sattn.visit 2 tail
      sattn.visit 0
    }
  }
  // CHECK: sattn.route layer 0 head 0 step 0 to @unrolled
  sattn.route layer 0 head 0 step 0 to @unrolled
}

// CHECK: mask_0: "0x01000000010305"
// CHECK: class_of: "0x04000000000000000100000001000000"
{-#
  dialect_resources: {
    builtin: {
      mask_0: "0x01000000010305",
      class_of: "0x04000000000000000100000001000000",
      bits: "0x010000000705",
      runs: "0x02000000000003000200010000000100",
      begins: "0x04000000000000000100000003000000",
      order: "0x02000000000001000200"
    }
  }
#-}

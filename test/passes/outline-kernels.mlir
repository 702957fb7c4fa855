// Steps 0 and 2 have equal kernels, in two order resources; every site is routed.
// RUN: calibatt-opt %s --sattn-outline-kernels | FileCheck %s

// CHECK: sattn.kernel @k0
// CHECK: sattn.kernel @k1
// CHECK-NOT: sattn.kernel
// CHECK: sattn.route layer 0 head 0 step 0 to @k0
// CHECK: sattn.route layer 0 head 0 step 1 to @k1
// CHECK: sattn.route layer 0 head 0 step 2 to @k0
module attributes {sattn.problem = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 1, heads = 1, steps = 3, head_dim = 64, block = 128, scale = 0.125 : f64>} {
  sattn.site layer 0 head 0 step 0 repetitive kept 1.0 density 1.0 repetition 0.9
  sattn.site layer 0 head 0 step 1 repetitive kept 1.0 density 1.0 repetition 0.9
  sattn.site layer 0 head 0 step 2 repetitive kept 1.0 density 1.0 repetition 0.9
  sattn.rows @rows heads 1 rows 3 cols 3 classes 2 class_of dense_resource<class_of> : tensor<3xi32> bits dense_resource<bits> : tensor<2xi8>
  sattn.rows @dense heads 1 rows 3 cols 3 classes 1 class_of dense_resource<dense_class_of> : tensor<3xi32> bits dense_resource<dense_bits> : tensor<1xi8>
  sattn.kernel @k0 layer 0 step 0 heads 0 count 1 rows @rows order dense_resource<order_0> : tensor<3xi16>
  sattn.kernel @k1 layer 0 step 1 heads 0 count 1 rows @dense order dense_resource<order_0> : tensor<3xi16>
  sattn.kernel @k2 layer 0 step 2 heads 0 count 1 rows @rows order dense_resource<order_2> : tensor<3xi16>
}

{-#
  dialect_resources: {
    builtin: {
      class_of: "0x04000000000000000100000001000000",
      bits: "0x010000000305",
      dense_class_of: "0x04000000000000000000000000000000",
      dense_bits: "0x0100000007",
      order_0: "0x02000000010000000200",
      order_2: "0x02000000010000000200"
    }
  }
#-}

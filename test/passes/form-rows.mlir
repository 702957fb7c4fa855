// Equal rows share a class, also across the heads of one kernel; equal lists of
// masks share their rows.
// RUN: calibatt-opt %s --sattn-form-rows 2>%t.err | FileCheck %s
// RUN: FileCheck %s --check-prefix=REMARK --input-file=%t.err
// RUN: calibatt-opt %s --sattn-form-rows=granularity=head 2>/dev/null | FileCheck %s --check-prefix=HEAD
// RUN: not calibatt-opt %s --sattn-form-rows=granularity=layer 2>&1 | FileCheck %s --check-prefix=WORD

// CHECK: sattn.remarks = ["layer 1 head 1: repetitive in 1 step from step 2 on, compiled as dense: 0 anchor rows do not fit frames of 3 x 100"]
// CHECK: sattn.rows @rows_0 heads 2 rows 3 cols 3 classes 4
// CHECK: sattn.kernel @kernel_l1_s0 layer 1 step 0 heads 0 count 2 rows @rows_0{{$}}
// CHECK: sattn.kernel @kernel_l1_s1 layer 1 step 1 heads 0 count 2 rows @rows_0{{$}}
// CHECK: sattn.rows @rows_1 heads 2 rows 3 cols 3 classes 4
// CHECK: sattn.kernel @kernel_l1_s2 layer 1 step 2 heads 0 count 2 rows @rows_1{{$}}
// Head 0 is rows 1, 3, 5, head 1 rows 3, 5, 7; a repetitive head is dense.
// CHECK: rows_0_class_of: "0x04000000000000000100000002000000010000000200000003000000"
// CHECK: rows_0_bits: "0x0100000001030507"
// CHECK: rows_1_class_of: "0x04000000000000000100000002000000030000000300000003000000"
// CHECK: rows_1_bits: "0x0100000001030507"

// REMARK: form-rows.mlir:[[#]]:3: remark: layer 1 head 1: repetitive in 1 step from step 2 on, compiled as dense

// HEAD: sattn.rows @rows_0 heads 1
// HEAD: sattn.kernel @kernel_l1_h0_s0 layer 1 step 0 heads 0 count 1 rows @rows_0
// HEAD: sattn.rows @rows_1 heads 1
// HEAD: sattn.kernel @kernel_l1_h1_s0 layer 1 step 0 heads 1 count 1 rows @rows_1
// HEAD: sattn.kernel @kernel_l1_h0_s1 layer 1 step 1 heads 0 count 1 rows @rows_0
// HEAD: sattn.kernel @kernel_l1_h1_s1 layer 1 step 1 heads 1 count 1 rows @rows_1
// HEAD: sattn.kernel @kernel_l1_h0_s2 layer 1 step 2 heads 0 count 1 rows @rows_0
// HEAD: sattn.rows @rows_2 heads 1 rows 3 cols 3 classes 1
// HEAD: sattn.kernel @kernel_l1_h1_s2 layer 1 step 2 heads 1 count 1 rows @rows_2

// WORD: error: granularity is 'layer', wanted step or head
module attributes {sattn.problem = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 3, head_dim = 64, block = 128, scale = 0.125 : f64>} {
  sattn.mask @mask_0 3 x 3 dense_resource<mask_0> : tensor<3xi8>
  sattn.mask @mask_1 3 x 3 dense_resource<mask_1> : tensor<3xi8>
  sattn.site layer 1 head 1 step 0 mask @mask_1 kept 0.9 density 0.5 repetition 0.0
  sattn.site layer 1 head 0 step 0 mask @mask_0 kept 0.9 density 0.5 repetition 0.0
  sattn.site layer 1 head 0 step 1 mask @mask_0 kept 0.9 density 0.5 repetition 0.0
  sattn.site layer 1 head 1 step 1 mask @mask_1 kept 0.9 density 0.5 repetition 0.0
  sattn.site layer 1 head 0 step 2 mask @mask_0 kept 0.9 density 0.5 repetition 0.0
  sattn.site layer 1 head 1 step 2 repetitive kept 1.0 density 1.0 repetition 0.9
}

{-#
  dialect_resources: {
    builtin: {
      mask_0: "0x01000000010305",
      mask_1: "0x01000000030507"
    }
  }
#-}

// All passes after the import, and the two granularities.
// RUN: calibatt-opt %s --sattn-pipeline="form=full unroll-budget-bytes=60000" 2>&1 | FileCheck %s --check-prefixes=STEP
// RUN: calibatt-opt %s --sattn-pipeline="granularity=head form=table" | FileCheck %s --check-prefix=HEAD
// RUN: calibatt-opt %s --sattn-pipeline="share-steps=0.8 form=runs" 2>/dev/null | FileCheck %s --check-prefix=SHARED

// STEP: warning: form full was asked for, over the budget: 64000 bytes of unrolled code, budget 60000
// STEP-NOT: warning
// STEP: sattn.kernel @kernel_l0_s0 layer 0 step 0 heads 0 count 2 {{.*}} form full {{.*}} order
// STEP: sattn.row_class 0
// STEP: sattn.kernel @kernel_l0_s1 layer 0 step 1 heads 0 count 2 {{.*}} form full
// STEP: sattn.route layer 0 head 0 step 0 to @kernel_l0_s0
// STEP: sattn.route layer 0 head 1 step 1 to @kernel_l0_s1

// Head 0 has one mask in both steps, so one kernel.
// HEAD: sattn.kernel @kernel_l0_h0_s0 layer 0 step 0 heads 0 count 1 {{.*}} form table
// HEAD: sattn.kernel @kernel_l0_h1_s0 layer 0 step 0 heads 1 count 1
// HEAD: sattn.kernel @kernel_l0_h1_s1 layer 0 step 1 heads 1 count 1
// HEAD-NOT: sattn.kernel
// HEAD: sattn.route layer 0 head 0 step 0 to @kernel_l0_h0_s0
// HEAD: sattn.route layer 0 head 1 step 0 to @kernel_l0_h1_s0
// HEAD: sattn.route layer 0 head 0 step 1 to @kernel_l0_h0_s0
// HEAD: sattn.route layer 0 head 1 step 1 to @kernel_l0_h1_s1

// SHARED: sattn.kernel @kernel_l0_s0
// SHARED-NOT: sattn.kernel
// SHARED: sattn.route layer 0 head 1 step 1 to @kernel_l0_s0
module attributes {sattn.problem = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 1, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>} {
  sattn.mask @mask_0 3 x 3 dense_resource<mask_0> : tensor<3xi8>
  sattn.mask @mask_1 3 x 3 dense_resource<mask_1> : tensor<3xi8>
  sattn.mask @mask_2 3 x 3 dense_resource<mask_2> : tensor<3xi8>
  sattn.site layer 0 head 0 step 0 mask @mask_0 kept 0.9 density 0.5 repetition 0.0
  sattn.site layer 0 head 1 step 0 mask @mask_1 kept 0.9 density 0.5 repetition 0.0
  sattn.site layer 0 head 0 step 1 mask @mask_0 kept 0.9 density 0.5 repetition 0.0
  sattn.site layer 0 head 1 step 1 mask @mask_2 kept 0.9 density 0.5 repetition 0.0
}

{-#
  dialect_resources: {
    builtin: {
      mask_0: "0x01000000010307",
      mask_1: "0x01000000030607",
      mask_2: "0x01000000030707"
    }
  }
#-}

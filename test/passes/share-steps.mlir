// Steps 0 and 1 have 13 of 15 blocks in common (IoU 0.87), step 2 far fewer.
// RUN: calibatt-opt %s --sattn-share-steps=tau=0.85 2>%t.err | FileCheck %s
// RUN: FileCheck %s --check-prefix=REMARK --input-file=%t.err
// RUN: calibatt-opt %s --sattn-share-steps=tau=0.97 2>&1 | FileCheck %s --check-prefix=STRICT
// RUN: not calibatt-opt %s --sattn-share-steps=tau=1.5 2>&1 | FileCheck %s --check-prefix=TAU

// CHECK: sattn.remarks = ["layer 0 head 1: steps 0 to 2 share 2 masks, mean density 0.6667 to 0.7083"]
// CHECK-NOT: @mask_0
// CHECK: sattn.mask @[[SHARED:shared_mask]]
// CHECK: sattn.mask @mask_2
// CHECK: sattn.site layer 0 head 1 step 2 mask @mask_2
// CHECK: sattn.site layer 0 head 1 step 0 mask @[[SHARED]]
// CHECK: sattn.site layer 0 head 1 step 1 mask @[[SHARED]]
// CHECK: shared_mask: "0x010000000F0F070F"

// REMARK: remark: layer 0 head 1: steps 0 to 2 share 2 masks

// STRICT-NOT: remark
// STRICT: sattn.site layer 0 head 1 step 2 mask @mask_2
// STRICT: sattn.site layer 0 head 1 step 0 mask @mask_0
// STRICT: sattn.site layer 0 head 1 step 1 mask @mask_1

// TAU: error: tau is 1.5{{0*(e\+00)?}}, wanted more than 0, at most 1
module attributes {sattn.problem = #sattn.problem<model = "m", frames = 1, height = 5, width = 100, tokens = 500, max_text = 0, layers = 1, heads = 2, steps = 3, head_dim = 64, block = 128, scale = 0.125 : f64>} {
  sattn.mask @mask_0 4 x 4 dense_resource<mask_0> : tensor<4xi8>
  sattn.mask @mask_1 4 x 4 dense_resource<mask_1> : tensor<4xi8>
  sattn.mask @mask_2 4 x 4 dense_resource<mask_2> : tensor<4xi8>
  sattn.site layer 0 head 1 step 2 mask @mask_2 kept 0.9 density 0.25 repetition 0.0
  sattn.site layer 0 head 1 step 0 mask @mask_0 kept 0.9 density 0.875 repetition 0.0
  sattn.site layer 0 head 1 step 1 mask @mask_1 kept 0.9 density 0.875 repetition 0.0
}

{-#
  dialect_resources: {
    builtin: {
      mask_0: "0x010000000F0F0707",
      mask_1: "0x010000000F0F030F",
      mask_2: "0x0100000001020408"
    }
  }
#-}

// A repetitive head computes its anchor rows: 2 of 6 a frame, 100 queries a frame,
// 2 tiles of 128 for the 200 of both frames, where 600 tokens have 5.
// RUN: calibatt-opt %s --sattn-form-rows 2>/dev/null | FileCheck %s
// RUN: calibatt-opt %s --sattn-pipeline=form=runs 2>/dev/null | FileCheck %s --check-prefix=PIPELINE

// CHECK: sattn.remarks = ["layer 0 head 1: repetitive in 1 step from step 0 on, computes 2 of 6 spatial rows a frame"]
// CHECK: sattn.rows @rows_0 heads 2 rows 5 cols 5 classes 2 repetitive [1] class_of

// The kernel knows the grid; the three tiles that the head does not have come last.
// PIPELINE: spec <{{.*}}, grid_height = 6, grid_width = 50, anchors = 2> order
// PIPELINE: rows_0_order: "0x020000000500060000000100020003000400070008000900"
module attributes {sattn.problem = #sattn.problem<model = "m", frames = 2, height = 6, width = 50, tokens = 600, max_text = 0, layers = 1, heads = 2, steps = 1, head_dim = 64, block = 128, scale = 0.125 : f64, anchors = 2>} {
  sattn.mask @mask_0 5 x 5 dense_resource<mask_0> : tensor<5xi8>
  sattn.site layer 0 head 0 step 0 mask @mask_0 kept 0.9 density 0.5 repetition 0.0
  sattn.site layer 0 head 1 step 0 repetitive kept 1.0 density 1.0 repetition 0.9
}

{-#
  dialect_resources: {
    builtin: {
      mask_0: "0x010000000101010101"
    }
  }
#-}

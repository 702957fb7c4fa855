// The softmax of kernels whose schedule is data: online where the largest logits predict tiles computed twice.
// RUN: calibatt-opt %s --sattn-choose-form=form=runs | FileCheck %s --check-prefixes=CHECK,AUTO
// RUN: calibatt-opt %s --sattn-choose-form="form=runs softmax=frozen" | FileCheck %s --check-prefixes=CHECK,FROZEN
// RUN: calibatt-opt %s --sattn-choose-form="form=runs softmax=online" | FileCheck %s --check-prefixes=CHECK,ONLINE
// RUN: calibatt-opt %s --sattn-choose-form=form=full | FileCheck %s --check-prefix=FULL
// RUN: not calibatt-opt %s --sattn-choose-form=softmax=lazy 2>&1 | FileCheck %s --check-prefix=WORD

// One head of two with large logits.
// CHECK: sattn.kernel @large
// AUTO-SAME: persistent = true, mma_sums = true>
// AUTO-SAME: reason = "form runs was asked for; online softmax: logits up to 400.0 would have 50.0% of the tiles computed twice with a frozen maximum"
// FROZEN-SAME: frozen_max = true
// FROZEN-SAME: reason = "form runs was asked for"
// ONLINE-SAME: persistent = true, mma_sums = true>
// ONLINE-SAME: reason = "form runs was asked for; the online softmax was asked for"
// CHECK: sattn.kernel @small
// AUTO-SAME: frozen_max = true
// AUTO-SAME: reason = "form runs was asked for"
// Nobody knows the logits of this one.
// CHECK: sattn.kernel @silent
// AUTO-SAME: frozen_max = true
// CHECK: sattn.kernel @dense dense
// AUTO-SAME: frozen_max = true
// ONLINE-SAME: persistent = true, mma_sums = true>

// Unrolled kernels have no frozen maximum to begin with.
// FULL: sattn.kernel @large
// FULL-NOT: online softmax
// FULL: sattn.kernel @small

// WORD: error: softmax is 'lazy', wanted auto, frozen or online
module attributes {sattn.problem = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 1, heads = 2, steps = 3, head_dim = 64, block = 128, scale = 0.125 : f64>} {
  sattn.mask @mask 3 x 3 dense_resource<mask> : tensor<3xi8>
  sattn.site layer 0 head 0 step 0 mask @mask kept 1.0 density 1.0 repetition 0.0 row_max 400.0
  sattn.site layer 0 head 1 step 0 mask @mask kept 1.0 density 1.0 repetition 0.0 row_max 10.0
  sattn.site layer 0 head 0 step 1 mask @mask kept 1.0 density 1.0 repetition 0.0 row_max 30.0
  sattn.site layer 0 head 1 step 1 mask @mask kept 1.0 density 1.0 repetition 0.0 row_max 30.0
  sattn.site layer 0 head 0 step 2 mask @mask kept 1.0 density 1.0 repetition 0.0
  sattn.site layer 0 head 1 step 2 mask @mask kept 1.0 density 1.0 repetition 0.0
  sattn.rows @rows heads 2 rows 3 cols 3 classes 1 class_of dense_resource<class_of> : tensor<6xi32> bits dense_resource<bits> : tensor<1xi8>
    runs dense_resource<runs> : tensor<2xi16> begins dense_resource<begins> : tensor<2xi32>
  sattn.kernel @large layer 0 step 0 heads 0 count 2 rows @rows
  sattn.kernel @small layer 0 step 1 heads 0 count 2 rows @rows
  sattn.kernel @silent layer 0 step 2 heads 0 count 2 rows @rows
  sattn.kernel @dense dense layer 0 step 0 heads 0 count 2 rows @rows
}

{-#
  dialect_resources: {
    builtin: {
      mask: "0x01000000070707",
      class_of: "0x04000000000000000000000000000000000000000000000000000000",
      bits: "0x0100000007",
      runs: "0x0200000000000300",
      begins: "0x040000000000000001000000"
    }
  }
#-}

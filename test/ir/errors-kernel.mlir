// Messages of the verifier of sattn.kernel itself. 300 tokens are 3 blocks.
// RUN: calibatt-opt %s --split-input-file --verify-diagnostics

// kernel [1]: no head
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  sattn.rows @r heads 1 rows 3 cols 3 classes 2 class_of dense_resource<c> : tensor<3xi32>
    bits dense_resource<b> : tensor<2xi8>
  // expected-error@+1 {{covers 0 heads, wanted at least 1}}
  sattn.kernel @k layer 0 step 0 heads 0 count 0 rows @r
}
{-#
  dialect_resources: {
    builtin: {
      c: "0x04000000000000000100000001000000",
      b: "0x010000000705"
    }
  }
#-}

// -----

// kernel [1]: heads
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  sattn.rows @r heads 1 rows 3 cols 3 classes 2 class_of dense_resource<c> : tensor<3xi32>
    bits dense_resource<b> : tensor<2xi8>
  // expected-error@+1 {{covers 2 heads from 1, but the problem has 2}}
  sattn.kernel @k layer 0 step 0 heads 1 count 2 rows @r
}
{-#
  dialect_resources: {
    builtin: {
      c: "0x04000000000000000100000001000000",
      b: "0x010000000705"
    }
  }
#-}

// -----

// kernel [1]: layer
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  sattn.rows @r heads 1 rows 3 cols 3 classes 2 class_of dense_resource<c> : tensor<3xi32>
    bits dense_resource<b> : tensor<2xi8>
  // expected-error@+1 {{layer 2 is not one of the problem's 2}}
  sattn.kernel @k layer 2 step 0 heads 0 count 1 rows @r
}
{-#
  dialect_resources: {
    builtin: {
      c: "0x04000000000000000100000001000000",
      b: "0x010000000705"
    }
  }
#-}

// -----

// kernel [2]
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  sattn.rows @r heads 1 rows 3 cols 3 classes 2 class_of dense_resource<c> : tensor<3xi32>
    bits dense_resource<b> : tensor<2xi8>
  // expected-error@+1 {{has form, target and spec 1, 0, 0, wanted all or none}}
  sattn.kernel @k layer 0 step 0 heads 0 count 1 rows @r form runs
}
{-#
  dialect_resources: {
    builtin: {
      c: "0x04000000000000000100000001000000",
      b: "0x010000000705"
    }
  }
#-}

// -----

// kernel [3]: no form
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  sattn.rows @r heads 1 rows 3 cols 3 classes 2 class_of dense_resource<c> : tensor<3xi32>
    bits dense_resource<b> : tensor<2xi8>
  // expected-error@+1 {{has a region, but form none, wanted full or schedule}}
  sattn.kernel @k layer 0 step 0 heads 0 count 1 rows @r {
    sattn.row_class 0 {
      sattn.visit 2 tail
      sattn.visit 1
      sattn.visit 0
    }
  }
}
{-#
  dialect_resources: {
    builtin: {
      c: "0x04000000000000000100000001000000",
      b: "0x010000000705"
    }
  }
#-}

// -----

// kernel [3]: runs
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  sattn.rows @r heads 1 rows 3 cols 3 classes 2 class_of dense_resource<c> : tensor<3xi32>
    bits dense_resource<b> : tensor<2xi8>
  // expected-error@+1 {{has a region, but form runs, wanted full or schedule}}
  sattn.kernel @k layer 0 step 0 heads 0 count 1 rows @r form runs target "sm_90a"
    spec <head_dim = 64, tokens = 300, scale = 0.125 : f32, stages = 2, ping_pong = true, lazy_rescale = true, watchdog = false> {
    sattn.row_class 0 {
      sattn.visit 2 tail
      sattn.visit 1
      sattn.visit 0
    }
  }
}
{-#
  dialect_resources: {
    builtin: {
      c: "0x04000000000000000100000001000000",
      b: "0x010000000705"
    }
  }
#-}

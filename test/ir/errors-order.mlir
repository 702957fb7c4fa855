// Messages about a kernel's symbol, launch order and spec.
// RUN: calibatt-opt %s --split-input-file --verify-diagnostics

// kernel [9]: tokens
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  sattn.rows @r heads 1 rows 3 cols 3 classes 2 class_of dense_resource<c> : tensor<3xi32>
    bits dense_resource<b> : tensor<2xi8>
  // expected-error@+1 {{has a spec for 301 tokens, but the problem has 300}}
  sattn.kernel @k layer 0 step 0 heads 0 count 1 rows @r form runs target "sm_90a"
    spec <head_dim = 64, tokens = 301, scale = 0.125 : f32, stages = 2, ping_pong = true, lazy_rescale = true, watchdog = false>
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

// kernel [9]: head_dim
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  sattn.rows @r heads 1 rows 3 cols 3 classes 2 class_of dense_resource<c> : tensor<3xi32>
    bits dense_resource<b> : tensor<2xi8>
  // expected-error@+1 {{has a spec for head_dim 128, but the problem has 64}}
  sattn.kernel @k layer 0 step 0 heads 0 count 1 rows @r form runs target "sm_90a"
    spec <head_dim = 128, tokens = 300, scale = 0.125 : f32, stages = 2, ping_pong = true, lazy_rescale = true, watchdog = false>
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

// kernel [9]: scale
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  sattn.rows @r heads 1 rows 3 cols 3 classes 2 class_of dense_resource<c> : tensor<3xi32>
    bits dense_resource<b> : tensor<2xi8>
  // expected-error@+1 {{has a spec with scale 2.500000e-01, but the problem has 1.250000e-01}}
  sattn.kernel @k layer 0 step 0 heads 0 count 1 rows @r form runs target "sm_90a"
    spec <head_dim = 64, tokens = 300, scale = 0.25 : f32, stages = 2, ping_pong = true, lazy_rescale = true, watchdog = false>
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

// spec [1]
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  sattn.rows @r heads 1 rows 3 cols 3 classes 2 class_of dense_resource<c> : tensor<3xi32>
    bits dense_resource<b> : tensor<2xi8>
  sattn.kernel @k layer 0 step 0 heads 0 count 1 rows @r form runs target "sm_90a"
    // expected-error@+1 {{head_dim 64, tokens 300, stages 0: wanted at least 1 each}}
    spec <head_dim = 64, tokens = 300, scale = 0.125 : f32, stages = 0, ping_pong = true, lazy_rescale = true, watchdog = false>
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

// spec [2]
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  sattn.rows @r heads 1 rows 3 cols 3 classes 2 class_of dense_resource<c> : tensor<3xi32>
    bits dense_resource<b> : tensor<2xi8>
  sattn.kernel @k layer 0 step 0 heads 0 count 1 rows @r form runs target "sm_90a"
    // expected-error@+1 {{scale is 1.250000e-01 : f64, wanted a positive f32}}
    spec <head_dim = 64, tokens = 300, scale = 0.125 : f64, stages = 2, ping_pong = true, lazy_rescale = true, watchdog = false>
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

// kernel [8]: symbol
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  sattn.rows @r heads 1 rows 3 cols 3 classes 2 class_of dense_resource<c> : tensor<3xi32>
    bits dense_resource<b> : tensor<2xi8>
  // expected-error@+1 {{symbol @nowhere is not a sattn.rows}}
  sattn.kernel @k layer 0 step 0 heads 0 count 1 rows @nowhere
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

// kernel [8]: heads
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  sattn.rows @r heads 1 rows 3 cols 3 classes 2 class_of dense_resource<c> : tensor<3xi32>
    bits dense_resource<b> : tensor<2xi8>
  // expected-error@+1 {{covers 2 heads, but @r has 1}}
  sattn.kernel @k layer 0 step 0 heads 0 count 2 rows @r
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

// kernel [8]: blocks
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  sattn.rows @r heads 1 rows 2 cols 3 classes 2 class_of dense_resource<c> : tensor<2xi32>
    bits dense_resource<b> : tensor<2xi8>
  // expected-error@+1 {{walks @r of 2 x 3 blocks, but 300 tokens have 3}}
  sattn.kernel @k layer 0 step 0 heads 0 count 1 rows @r
}
{-#
  dialect_resources: {
    builtin: {
      c: "0x040000000000000001000000",
      b: "0x010000000705"
    }
  }
#-}

// -----

// kernel [7]: type
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  sattn.rows @r heads 1 rows 3 cols 3 classes 2 class_of dense_resource<c> : tensor<3xi32>
    bits dense_resource<b> : tensor<2xi8>
  // expected-error@+1 {{order is 'tensor<2xi16>', wanted tensor<3xi16>}}
  sattn.kernel @k layer 0 step 0 heads 0 count 1 rows @r order dense_resource<o> : tensor<2xi16>
}
{-#
  dialect_resources: {
    builtin: {
      c: "0x04000000000000000100000001000000",
      b: "0x010000000705",
      o: "0x0200000000000100"
    }
  }
#-}

// -----

// kernel [7]: range
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  sattn.rows @r heads 1 rows 3 cols 3 classes 2 class_of dense_resource<c> : tensor<3xi32>
    bits dense_resource<b> : tensor<2xi8>
  // expected-error@+1 {{order names row 3, but there are 3}}
  sattn.kernel @k layer 0 step 0 heads 0 count 1 rows @r order dense_resource<o> : tensor<3xi16>
}
{-#
  dialect_resources: {
    builtin: {
      c: "0x04000000000000000100000001000000",
      b: "0x010000000705",
      o: "0x02000000000001000300"
    }
  }
#-}

// -----

// kernel [7]: twice
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  sattn.rows @r heads 1 rows 3 cols 3 classes 2 class_of dense_resource<c> : tensor<3xi32>
    bits dense_resource<b> : tensor<2xi8>
  // expected-error@+1 {{order names row 1 twice}}
  sattn.kernel @k layer 0 step 0 heads 0 count 1 rows @r order dense_resource<o> : tensor<3xi16>
}
{-#
  dialect_resources: {
    builtin: {
      c: "0x04000000000000000100000001000000",
      b: "0x010000000705",
      o: "0x02000000000001000100"
    }
  }
#-}

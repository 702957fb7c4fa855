// Messages about a kernel's region. Block 2 is short.
// RUN: calibatt-opt %s --split-input-file --verify-diagnostics

// kernel [4]: a class left out
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  sattn.rows @r heads 1 rows 3 cols 3 classes 2 class_of dense_resource<c> : tensor<3xi32>
    bits dense_resource<b> : tensor<2xi8>
  // expected-error@+1 {{holds 1 row classes, but @r has 2}}
  sattn.kernel @k layer 0 step 0 heads 0 count 1 rows @r form full target "sm_90a"
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

// -----

// kernel [4]: another op
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  sattn.rows @r heads 1 rows 3 cols 3 classes 2 class_of dense_resource<c> : tensor<3xi32>
    bits dense_resource<b> : tensor<2xi8>
  // expected-error@+1 {{holds 'builtin.module', wanted only sattn.row_class}}
  sattn.kernel @k layer 0 step 0 heads 0 count 1 rows @r form full target "sm_90a"
    spec <head_dim = 64, tokens = 300, scale = 0.125 : f32, stages = 2, ping_pong = true, lazy_rescale = true, watchdog = false> {
    sattn.row_class 0 {
      sattn.visit 2 tail
      sattn.visit 1
      sattn.visit 0
    }
    builtin.module {
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

// kernel [4]: order of classes
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  sattn.rows @r heads 1 rows 3 cols 3 classes 2 class_of dense_resource<c> : tensor<3xi32>
    bits dense_resource<b> : tensor<2xi8>
  sattn.kernel @k layer 0 step 0 heads 0 count 1 rows @r form full target "sm_90a"
    spec <head_dim = 64, tokens = 300, scale = 0.125 : f32, stages = 2, ping_pong = true, lazy_rescale = true, watchdog = false> {
    sattn.row_class 0 {
      sattn.visit 2 tail
      sattn.visit 1
      sattn.visit 0
    }
    // expected-error@+1 {{has index 2, wanted 1 of 2}}
    sattn.row_class 2 {
      sattn.visit 2 tail
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

// kernel [5]: a visit left out
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  sattn.rows @r heads 1 rows 3 cols 3 classes 2 class_of dense_resource<c> : tensor<3xi32>
    bits dense_resource<b> : tensor<2xi8>
  sattn.kernel @k layer 0 step 0 heads 0 count 1 rows @r form full target "sm_90a"
    spec <head_dim = 64, tokens = 300, scale = 0.125 : f32, stages = 2, ping_pong = true, lazy_rescale = true, watchdog = false> {
    sattn.row_class 0 {
      sattn.visit 2 tail
      sattn.visit 1
      sattn.visit 0
    }
    // expected-error@+1 {{ends before key block 0 of class 1}}
    sattn.row_class 1 {
      sattn.visit 2 tail
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

// kernel [5]: another block
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  sattn.rows @r heads 1 rows 3 cols 3 classes 2 class_of dense_resource<c> : tensor<3xi32>
    bits dense_resource<b> : tensor<2xi8>
  sattn.kernel @k layer 0 step 0 heads 0 count 1 rows @r form full target "sm_90a"
    spec <head_dim = 64, tokens = 300, scale = 0.125 : f32, stages = 2, ping_pong = true, lazy_rescale = true, watchdog = false> {
    sattn.row_class 0 {
      sattn.visit 2 tail
      sattn.visit 1
      sattn.visit 0
    }
    sattn.row_class 1 {
      sattn.visit 2 tail
      // expected-error@+1 {{is of key block 1, wanted 0 of class 1}}
      sattn.visit 1
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

// kernel [5]: a visit too many
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  sattn.rows @r heads 1 rows 3 cols 3 classes 2 class_of dense_resource<c> : tensor<3xi32>
    bits dense_resource<b> : tensor<2xi8>
  sattn.kernel @k layer 0 step 0 heads 0 count 1 rows @r form full target "sm_90a"
    spec <head_dim = 64, tokens = 300, scale = 0.125 : f32, stages = 2, ping_pong = true, lazy_rescale = true, watchdog = false> {
    sattn.row_class 0 {
      sattn.visit 2 tail
      sattn.visit 1
      sattn.visit 0
    }
    sattn.row_class 1 {
      sattn.visit 2 tail
      sattn.visit 0
      // expected-error@+1 {{is of key block 0, but class 1 has no more}}
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

// kernel [6]: tail not marked
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  sattn.rows @r heads 1 rows 3 cols 3 classes 2 class_of dense_resource<c> : tensor<3xi32>
    bits dense_resource<b> : tensor<2xi8>
  sattn.kernel @k layer 0 step 0 heads 0 count 1 rows @r form full target "sm_90a"
    spec <head_dim = 64, tokens = 300, scale = 0.125 : f32, stages = 2, ping_pong = true, lazy_rescale = true, watchdog = false> {
    sattn.row_class 0 {
      sattn.visit 2 tail
      sattn.visit 1
      sattn.visit 0
    }
    sattn.row_class 1 {
      // expected-error@+1 {{of key block 2 is not marked tail, but that block is short}}
      sattn.visit 2
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

// kernel [6]: tail marked
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  sattn.rows @r heads 1 rows 3 cols 3 classes 2 class_of dense_resource<c> : tensor<3xi32>
    bits dense_resource<b> : tensor<2xi8>
  sattn.kernel @k layer 0 step 0 heads 0 count 1 rows @r form full target "sm_90a"
    spec <head_dim = 64, tokens = 300, scale = 0.125 : f32, stages = 2, ping_pong = true, lazy_rescale = true, watchdog = false> {
    sattn.row_class 0 {
      sattn.visit 2 tail
      sattn.visit 1
      sattn.visit 0
    }
    sattn.row_class 1 {
      sattn.visit 2 tail
      // expected-error@+1 {{of key block 0 is marked tail, but that block is whole}}
      sattn.visit 0 tail
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

// row_class [1]: empty
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  sattn.rows @r heads 1 rows 3 cols 3 classes 2 class_of dense_resource<c> : tensor<3xi32>
    bits dense_resource<b> : tensor<2xi8>
  sattn.kernel @k layer 0 step 0 heads 0 count 1 rows @r form full target "sm_90a"
    spec <head_dim = 64, tokens = 300, scale = 0.125 : f32, stages = 2, ping_pong = true, lazy_rescale = true, watchdog = false> {
    sattn.row_class 0 {
      sattn.visit 2 tail
      sattn.visit 1
      sattn.visit 0
    }
    // expected-error@+1 {{holds 0 visits, wanted at least 1}}
    sattn.row_class 1 {
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

// row_class [1]: another op
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  sattn.rows @r heads 1 rows 3 cols 3 classes 2 class_of dense_resource<c> : tensor<3xi32>
    bits dense_resource<b> : tensor<2xi8>
  sattn.kernel @k layer 0 step 0 heads 0 count 1 rows @r form full target "sm_90a"
    spec <head_dim = 64, tokens = 300, scale = 0.125 : f32, stages = 2, ping_pong = true, lazy_rescale = true, watchdog = false> {
    sattn.row_class 0 {
      sattn.visit 2 tail
      sattn.visit 1
      sattn.visit 0
    }
    // expected-error@+1 {{holds 'builtin.module', wanted only sattn.visit}}
    sattn.row_class 1 {
      builtin.module {
      }
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

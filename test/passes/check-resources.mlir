// What check-resources refuses.
// RUN: calibatt-opt %s --split-input-file --verify-diagnostics --sattn-check-resources

// no form
module attributes {sattn.problem = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>} {
  sattn.rows @r heads 1 rows 3 cols 3 classes 1 class_of dense_resource<c> : tensor<3xi32> bits dense_resource<b> : tensor<1xi8>
    runs dense_resource<u> : tensor<2xi16> begins dense_resource<g> : tensor<2xi32>
  // expected-error@+1 {{has no form: check-resources comes last}}
  sattn.kernel @k layer 0 step 0 heads 0 count 1 rows @r
}

{-#
  dialect_resources: {
    builtin: {
      c: "0x04000000000000000000000000000000",
      b: "0x0100000007",
      u: "0x0200000000000300",
      g: "0x040000000000000001000000",
      o: "0x02000000000001000200"
    }
  }
#-}

// -----

// no order
module attributes {sattn.problem = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>} {
  sattn.rows @r heads 1 rows 3 cols 3 classes 1 class_of dense_resource<c> : tensor<3xi32> bits dense_resource<b> : tensor<1xi8>
    runs dense_resource<u> : tensor<2xi16> begins dense_resource<g> : tensor<2xi32>
  // expected-error@+1 {{has no launch order: check-resources comes last}}
  sattn.kernel @k layer 0 step 0 heads 0 count 1 rows @r form runs target "sm_90a"
    spec <head_dim = 64, tokens = 300, scale = 0.125 : f32, stages = 2, ping_pong = true, lazy_rescale = true, watchdog = false>
}

{-#
  dialect_resources: {
    builtin: {
      c: "0x04000000000000000000000000000000",
      b: "0x0100000007",
      u: "0x0200000000000300",
      g: "0x040000000000000001000000",
      o: "0x02000000000001000200"
    }
  }
#-}

// -----

// no visits
module attributes {sattn.problem = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>} {
  sattn.rows @r heads 1 rows 3 cols 3 classes 1 class_of dense_resource<c> : tensor<3xi32> bits dense_resource<b> : tensor<1xi8>
    runs dense_resource<u> : tensor<2xi16> begins dense_resource<g> : tensor<2xi32>
  // expected-error@+1 {{of form full has no visits: unroll-schedule comes before check-resources}}
  sattn.kernel @k layer 0 step 0 heads 0 count 1 rows @r form full target "sm_90a"
    spec <head_dim = 64, tokens = 300, scale = 0.125 : f32, stages = 2, ping_pong = true, lazy_rescale = true, watchdog = false> order dense_resource<o> : tensor<3xi16>
}

{-#
  dialect_resources: {
    builtin: {
      c: "0x04000000000000000000000000000000",
      b: "0x0100000007",
      u: "0x0200000000000300",
      g: "0x040000000000000001000000",
      o: "0x02000000000001000200"
    }
  }
#-}

// -----

// target
module attributes {sattn.problem = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>} {
  sattn.rows @r heads 1 rows 3 cols 3 classes 1 class_of dense_resource<c> : tensor<3xi32> bits dense_resource<b> : tensor<1xi8>
    runs dense_resource<u> : tensor<2xi16> begins dense_resource<g> : tensor<2xi32>
  // expected-error@+1 {{target is sm_80, wanted sm_90a: there are no kernels for others yet}}
  sattn.kernel @k layer 0 step 0 heads 0 count 1 rows @r form runs target "sm_80"
    spec <head_dim = 64, tokens = 300, scale = 0.125 : f32, stages = 2, ping_pong = true, lazy_rescale = true, watchdog = false> order dense_resource<o> : tensor<3xi16>
}

{-#
  dialect_resources: {
    builtin: {
      c: "0x04000000000000000000000000000000",
      b: "0x0100000007",
      u: "0x0200000000000300",
      g: "0x040000000000000001000000",
      o: "0x02000000000001000200"
    }
  }
#-}

// -----

// head_dim
module attributes {sattn.problem = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 96, block = 128, scale = 0.125 : f64>} {
  sattn.rows @r heads 1 rows 3 cols 3 classes 1 class_of dense_resource<c> : tensor<3xi32> bits dense_resource<b> : tensor<1xi8>
    runs dense_resource<u> : tensor<2xi16> begins dense_resource<g> : tensor<2xi32>
  // expected-error@+1 {{head_dim is 96, wanted 64 or 128}}
  sattn.kernel @k layer 0 step 0 heads 0 count 1 rows @r form runs target "sm_90a"
    spec <head_dim = 96, tokens = 300, scale = 0.125 : f32, stages = 2, ping_pong = true, lazy_rescale = true, watchdog = false> order dense_resource<o> : tensor<3xi16>
}

{-#
  dialect_resources: {
    builtin: {
      c: "0x04000000000000000000000000000000",
      b: "0x0100000007",
      u: "0x0200000000000300",
      g: "0x040000000000000001000000",
      o: "0x02000000000001000200"
    }
  }
#-}

// -----

// shared memory
module attributes {sattn.problem = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 128, block = 128, scale = 0.125 : f64>} {
  sattn.rows @r heads 1 rows 3 cols 3 classes 1 class_of dense_resource<c> : tensor<3xi32> bits dense_resource<b> : tensor<1xi8>
    runs dense_resource<u> : tensor<2xi16> begins dense_resource<g> : tensor<2xi32>
  // expected-error@+1 {{shared memory is 296960, wanted at most 232448}}
  sattn.kernel @k layer 0 step 0 heads 0 count 1 rows @r form runs target "sm_90a"
    spec <head_dim = 128, tokens = 300, scale = 0.125 : f32, stages = 4, ping_pong = true, lazy_rescale = true, watchdog = false> order dense_resource<o> : tensor<3xi16>
}

{-#
  dialect_resources: {
    builtin: {
      c: "0x04000000000000000000000000000000",
      b: "0x0100000007",
      u: "0x0200000000000300",
      g: "0x040000000000000001000000",
      o: "0x02000000000001000200"
    }
  }
#-}

// -----

// stages
module attributes {sattn.problem = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>} {
  sattn.rows @r heads 1 rows 3 cols 3 classes 1 class_of dense_resource<c> : tensor<3xi32> bits dense_resource<b> : tensor<1xi8>
    runs dense_resource<u> : tensor<2xi16> begins dense_resource<g> : tensor<2xi32>
  // expected-error@+1 {{stages is 4 and scale 1.250000e-01, wanted 1 to 3 and more than 0}}
  sattn.kernel @k layer 0 step 0 heads 0 count 1 rows @r form runs target "sm_90a"
    spec <head_dim = 64, tokens = 300, scale = 0.125 : f32, stages = 4, ping_pong = true, lazy_rescale = true, watchdog = false> order dense_resource<o> : tensor<3xi16>
}

{-#
  dialect_resources: {
    builtin: {
      c: "0x04000000000000000000000000000000",
      b: "0x0100000007",
      u: "0x0200000000000300",
      g: "0x040000000000000001000000",
      o: "0x02000000000001000200"
    }
  }
#-}

// -----

// frozen_max
module attributes {sattn.problem = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>} {
  sattn.rows @r heads 1 rows 3 cols 3 classes 1 class_of dense_resource<c> : tensor<3xi32> bits dense_resource<b> : tensor<1xi8>
    runs dense_resource<u> : tensor<2xi16> begins dense_resource<g> : tensor<2xi32>
  // expected-error@+1 {{frozen_max is set without persistent: the tiles it fails for run again at the end of a list}}
  sattn.kernel @k layer 0 step 0 heads 0 count 1 rows @r form runs target "sm_90a"
    spec <head_dim = 64, tokens = 300, scale = 0.125 : f32, stages = 2, ping_pong = true, lazy_rescale = true, watchdog = false, frozen_max = true> order dense_resource<o> : tensor<3xi16>
}

{-#
  dialect_resources: {
    builtin: {
      c: "0x04000000000000000000000000000000",
      b: "0x0100000007",
      u: "0x0200000000000300",
      g: "0x040000000000000001000000",
      o: "0x02000000000001000200"
    }
  }
#-}

// -----

// heads
module attributes {sattn.problem = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 300, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>} {
  sattn.rows @r heads 1 rows 3 cols 3 classes 1 class_of dense_resource<c> : tensor<3xi32> bits dense_resource<b> : tensor<1xi8>
    runs dense_resource<u> : tensor<2xi16> begins dense_resource<g> : tensor<2xi32>
  // expected-error@+1 {{the last head is 256, wanted at most 255}}
  sattn.kernel @k layer 0 step 0 heads 256 count 1 rows @r form runs target "sm_90a"
    spec <head_dim = 64, tokens = 300, scale = 0.125 : f32, stages = 2, ping_pong = true, lazy_rescale = true, watchdog = false> order dense_resource<o> : tensor<3xi16>
}

{-#
  dialect_resources: {
    builtin: {
      c: "0x04000000000000000000000000000000",
      b: "0x0100000007",
      u: "0x0200000000000300",
      g: "0x040000000000000001000000",
      o: "0x02000000000001000200"
    }
  }
#-}

// -----

// joint text
// expected-error@+1 {{max_text is 3, wanted 0: there are no kernels for joint text yet}}
module attributes {sattn.problem = #sattn.problem<model = "m", frames = 1, height = 3, width = 99, tokens = 300, max_text = 3, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>} {
  sattn.rows @r heads 1 rows 3 cols 3 classes 1 class_of dense_resource<c> : tensor<3xi32> bits dense_resource<b> : tensor<1xi8>
    runs dense_resource<u> : tensor<2xi16> begins dense_resource<g> : tensor<2xi32>
  sattn.kernel @k layer 0 step 0 heads 0 count 1 rows @r form runs target "sm_90a"
    spec <head_dim = 64, tokens = 300, scale = 0.125 : f32, stages = 2, ping_pong = true, lazy_rescale = true, watchdog = false> order dense_resource<o> : tensor<3xi16>
}

{-#
  dialect_resources: {
    builtin: {
      c: "0x04000000000000000000000000000000",
      b: "0x0100000007",
      u: "0x0200000000000300",
      g: "0x040000000000000001000000",
      o: "0x02000000000001000200"
    }
  }
#-}

// -----

// a site without a route
module attributes {sattn.problem = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>} {
  sattn.rows @r heads 1 rows 3 cols 3 classes 1 class_of dense_resource<c> : tensor<3xi32> bits dense_resource<b> : tensor<1xi8>
    runs dense_resource<u> : tensor<2xi16> begins dense_resource<g> : tensor<2xi32>
  sattn.kernel @k layer 0 step 0 heads 0 count 1 rows @r form runs target "sm_90a"
    spec <head_dim = 64, tokens = 300, scale = 0.125 : f32, stages = 2, ping_pong = true, lazy_rescale = true, watchdog = false> order dense_resource<o> : tensor<3xi16>
  // expected-error@+1 {{layer 0 head 0 step 1 has no route}}
  sattn.site layer 0 head 0 step 1 repetitive kept 1.0 density 1.0 repetition 0.9
}

{-#
  dialect_resources: {
    builtin: {
      c: "0x04000000000000000000000000000000",
      b: "0x0100000007",
      u: "0x0200000000000300",
      g: "0x040000000000000001000000",
      o: "0x02000000000001000200"
    }
  }
#-}

// -----

// all is well
module attributes {sattn.problem = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>} {
  sattn.rows @r heads 1 rows 3 cols 3 classes 1 class_of dense_resource<c> : tensor<3xi32> bits dense_resource<b> : tensor<1xi8>
    runs dense_resource<u> : tensor<2xi16> begins dense_resource<g> : tensor<2xi32>
  sattn.kernel @k layer 0 step 0 heads 0 count 1 rows @r form runs target "sm_90a"
    spec <head_dim = 64, tokens = 300, scale = 0.125 : f32, stages = 2, ping_pong = true, lazy_rescale = true, watchdog = false> order dense_resource<o> : tensor<3xi16>
  sattn.site layer 0 head 0 step 0 repetitive kept 1.0 density 1.0 repetition 0.9
  sattn.route layer 0 head 0 step 0 to @k
}

{-#
  dialect_resources: {
    builtin: {
      c: "0x04000000000000000000000000000000",
      b: "0x0100000007",
      u: "0x0200000000000300",
      g: "0x040000000000000001000000",
      o: "0x02000000000001000200"
    }
  }
#-}

// What passes say when their input is not what the pass before them makes.
// RUN: calibatt-opt %s --split-input-file --verify-diagnostics --sattn-outline-kernels --sattn-choose-form

module attributes {sattn.problem = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 3, steps = 3, head_dim = 64, block = 128, scale = 0.125 : f64>} {
  // expected-error@+1 {{layer 1 head 0 step 0 has no kernel: form-rows comes before outline-kernels}}
  sattn.site layer 1 head 0 step 0 repetitive kept 1.0 density 1.0 repetition 0.9
}

// -----

module attributes {sattn.problem = #sattn.problem<model = "m", frames = 1, height = 1, width = 100, tokens = 100, max_text = 0, layers = 2, heads = 3, steps = 3, head_dim = 64, block = 128, scale = 0.125 : f64>} {
  sattn.rows @r heads 1 rows 1 cols 1 classes 1 class_of dense_resource<c> : tensor<1xi32> bits dense_resource<b> : tensor<1xi8>
  // expected-error@+1 {{has no runs yet: coalesce-runs comes before choose-form}}
  sattn.kernel @k layer 0 step 0 heads 0 count 1 rows @r
}

{-#
  dialect_resources: {
    builtin: {
      c: "0x0400000000000000",
      b: "0x0100000001"
    }
  }
#-}

// -----

sattn.rows @r heads 1 rows 1 cols 1 classes 1 class_of dense_resource<c> : tensor<1xi32> bits dense_resource<b> : tensor<1xi8>
// expected-error@+1 {{is in a module without a problem}}
sattn.kernel @k layer 0 step 0 heads 0 count 1 rows @r

{-#
  dialect_resources: {
    builtin: {
      c: "0x0400000000000000",
      b: "0x0100000001"
    }
  }
#-}

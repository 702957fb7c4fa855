// Messages of sattn.route's verifier.
// RUN: calibatt-opt %s --split-input-file --verify-diagnostics

// route [1]
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  sattn.rows @r heads 1 rows 3 cols 3 classes 2 class_of dense_resource<c> : tensor<3xi32>
    bits dense_resource<b> : tensor<2xi8>
  sattn.kernel @k layer 0 step 0 heads 0 count 1 rows @r
  // expected-error@+1 {{step 2 is not one of the problem's 2}}
  sattn.route layer 0 head 0 step 2 to @k
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

// route [2]: symbol
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  // expected-error@+1 {{symbol @nowhere is not a sattn.kernel}}
  sattn.route layer 0 head 0 step 1 to @nowhere
}

// -----

// route [2]: layer
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  sattn.rows @r heads 1 rows 3 cols 3 classes 2 class_of dense_resource<c> : tensor<3xi32>
    bits dense_resource<b> : tensor<2xi8>
  sattn.kernel @k layer 0 step 0 heads 0 count 1 rows @r
  // expected-error@+1 {{is of layer 1, but @k is of layer 0}}
  sattn.route layer 1 head 0 step 1 to @k
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

// route [2]: head
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  sattn.rows @r heads 1 rows 3 cols 3 classes 2 class_of dense_resource<c> : tensor<3xi32>
    bits dense_resource<b> : tensor<2xi8>
  sattn.kernel @k layer 0 step 0 heads 0 count 1 rows @r
  // expected-error@+1 {{is of head 1, but @k covers 1 head from 0}}
  sattn.route layer 0 head 1 step 1 to @k
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

// route [3]
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  sattn.rows @r heads 1 rows 3 cols 3 classes 2 class_of dense_resource<c> : tensor<3xi32>
    bits dense_resource<b> : tensor<2xi8>
  sattn.kernel @k layer 0 step 0 heads 0 count 1 rows @r
  // expected-note@+1 {{the first is here}}
  sattn.route layer 0 head 0 step 1 to @k
  // expected-error@+1 {{is the second of layer 0 head 0 step 1}}
  sattn.route layer 0 head 0 step 1 to @k
}
{-#
  dialect_resources: {
    builtin: {
      c: "0x04000000000000000100000001000000",
      b: "0x010000000705"
    }
  }
#-}

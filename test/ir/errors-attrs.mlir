// Messages of the attributes' verifiers.
// RUN: calibatt-opt %s --split-input-file --verify-diagnostics

// problem [1]
// expected-error@+1 {{block is 64, wanted 128}}
module attributes {sattn.problem = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 64, scale = 0.125 : f64>} {}

// -----

// problem [2]
// expected-error@+1 {{layers 2, heads 0, steps 2, head_dim 64: wanted at least 1 each}}
module attributes {sattn.problem = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 0, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>} {}

// -----

// problem [3]
// expected-error@+1 {{tokens is 301, but the grid 1x3x100 with 0 text tokens has 300}}
module attributes {sattn.problem = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 301, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>} {}

// -----

// problem [3] does not overflow
// expected-error@+1 {{tokens is 0, but the grid 4294967295x4294967295x2 with 0 text tokens has 18446744073709551615}}
module attributes {sattn.problem = #sattn.problem<model = "m", frames = 4294967295, height = 4294967295, width = 2, tokens = 0, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>} {}

// -----

// problem [4]
// expected-error@+1 {{scale is 0.000000e+00 : f64, wanted a positive f64}}
module attributes {sattn.problem = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.0 : f64>} {}

// -----

// the problem belongs on a module
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module {
  // expected-error@+1 {{has attribute 'sattn.problem', which belongs on a module}}
  sattn.mask @m 1 x 1 dense_resource<m> : tensor<1xi8> {sattn.problem = #p}
}
{-#
  dialect_resources: {
    builtin: {
      m: "0x0100000001"
    }
  }
#-}

// -----

// the problem is a problem
// expected-error@+1 {{attribute 'sattn.problem' is not a #sattn.problem}}
module attributes {sattn.problem = 7 : i32} {}

// -----

// remarks are strings
// expected-error@+1 {{attribute 'sattn.remarks' is not an array of strings}}
module attributes {sattn.remarks = [7 : i32]} {}

// -----

// no other attribute is known
// expected-error@+1 {{has unknown attribute 'sattn.problme'}}
module attributes {sattn.problme = 7 : i32} {}

// RUN: calibatt-opt %s --split-input-file --verify-diagnostics --sattn-form-rows

module attributes {sattn.problem = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 3, steps = 3, head_dim = 64, block = 128, scale = 0.125 : f64>} {
  sattn.site layer 1 head 0 step 0 repetitive kept 1.0 density 1.0 repetition 0.9
  // expected-error@+1 {{the heads of layer 1 step 0 go on with 2, wanted 1: a kernel covers consecutive heads}}
  sattn.site layer 1 head 2 step 0 repetitive kept 1.0 density 1.0 repetition 0.9
}

// -----

// expected-error@+1 {{the module has sites, but no attribute 'sattn.problem'}}
module {
  sattn.site layer 1 head 0 step 0 repetitive kept 1.0 density 1.0 repetition 0.9
}

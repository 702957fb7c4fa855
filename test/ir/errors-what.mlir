// Messages of the verifiers of sattn.mask and sattn.site. 300 tokens are 3 blocks, the last one short.
// RUN: calibatt-opt %s --split-input-file --verify-diagnostics

// mask [1]
module {
  // expected-error@+1 {{is 0 x 3, wanted at least 1 x 1}}
  sattn.mask @m 0 x 3 dense_resource<b> : tensor<0xi8>
}
{-#
  dialect_resources: {
    builtin: {
      b: "0x01000000"
    }
  }
#-}

// -----

// mask [2]: type
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  // expected-error@+1 {{bits is 'tensor<4xi8>', wanted tensor<3xi8>}}
  sattn.mask @m 3 x 3 dense_resource<b> : tensor<4xi8>
}
{-#
  dialect_resources: {
    builtin: {
      b: "0x0100000001020407"
    }
  }
#-}

// -----

// mask [2]: bytes
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  // expected-error@+1 {{bits resource 'b' has 2 bytes, wanted 3 times 1}}
  sattn.mask @m 3 x 3 dense_resource<b> : tensor<3xi8>
}
{-#
  dialect_resources: {
    builtin: {
      b: "0x010000000102"
    }
  }
#-}

// -----

// mask [2]: no data
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  // expected-error@+1 {{bits resource 'nowhere' has 0 bytes, wanted 3 times 1}}
  sattn.mask @m 3 x 3 dense_resource<nowhere> : tensor<3xi8>
}

// -----

// mask [3]
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  // expected-error@+1 {{row 1 has a bit set beyond its 3 columns}}
  sattn.mask @m 3 x 3 dense_resource<b> : tensor<3xi8>
}
{-#
  dialect_resources: {
    builtin: {
      b: "0x01000000010A04"
    }
  }
#-}

// -----

// mask [4]
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  // expected-error@+1 {{row 2 keeps 0 of 3 key blocks, wanted at least 1}}
  sattn.mask @m 3 x 3 dense_resource<b> : tensor<3xi8>
}
{-#
  dialect_resources: {
    builtin: {
      b: "0x01000000010200"
    }
  }
#-}

// -----

// mask [5]
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  // expected-error@+1 {{is 2 x 3, but 300 tokens have 3 blocks}}
  sattn.mask @m 2 x 3 dense_resource<b> : tensor<2xi8>
}
{-#
  dialect_resources: {
    builtin: {
      b: "0x010000000102"
    }
  }
#-}

// -----

// site [1]: layer
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  // expected-error@+1 {{layer 2 is not one of the problem's 2}}
  sattn.site layer 2 head 0 step 0 repetitive kept 1.0 density 1.0 repetition 0.0
}

// -----

// site [1]: head
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  // expected-error@+1 {{head 7 is not one of the problem's 2}}
  sattn.site layer 0 head 7 step 0 repetitive kept 1.0 density 1.0 repetition 0.0
}

// -----

// site [1]: step
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  // expected-error@+1 {{step 2 is not one of the problem's 2}}
  sattn.site layer 0 head 0 step 2 repetitive kept 1.0 density 1.0 repetition 0.0
}

// -----

// site [2]: kept mass
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  // expected-error@+1 {{kept mass is 1.500000e+00, wanted 0 to 1}}
  sattn.site layer 0 head 0 step 0 repetitive kept 1.5 density 1.0 repetition 0.0
}

// -----

// site [2]: density
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  // expected-error@+1 {{density is 0.000000e+00, wanted more than 0, at most 1}}
  sattn.site layer 0 head 0 step 0 repetitive kept 1.0 density 0.0 repetition 0.0
}

// -----

// site [3]
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  // expected-error@+1 {{symbol @nowhere is not a sattn.mask}}
  sattn.site layer 0 head 0 step 0 mask @nowhere kept 1.0 density 1.0 repetition 0.0
}

// -----

// site [4]
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  // expected-note@+1 {{the first is here}}
  sattn.site layer 0 head 1 step 0 repetitive kept 1.0 density 1.0 repetition 0.0
  // expected-error@+1 {{is the second of layer 0 head 1 step 0}}
  sattn.site layer 0 head 1 step 0 repetitive kept 1.0 density 1.0 repetition 0.0
}

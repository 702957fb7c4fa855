// Messages of sattn.rows' verifier.
// RUN: calibatt-opt %s --split-input-file --verify-diagnostics

// rows [1]
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  // expected-error@+1 {{has 0 heads, 3 rows, 3 cols, 2 classes, wanted at least 1 each}}
  sattn.rows @r heads 0 rows 3 cols 3 classes 2 class_of dense_resource<c> : tensor<0xi32>
    bits dense_resource<b> : tensor<2xi8>
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

// rows [2]: type
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  // expected-error@+1 {{class_of is 'tensor<4xi32>', wanted tensor<3xi32>}}
  sattn.rows @r heads 1 rows 3 cols 3 classes 2 class_of dense_resource<c> : tensor<4xi32>
    bits dense_resource<b> : tensor<2xi8>
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

// rows [2]: alignment
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  // expected-error@+1 {{class_of resource 'c' is aligned to 1 bytes, wanted 4}}
  sattn.rows @r heads 1 rows 3 cols 3 classes 2 class_of dense_resource<c> : tensor<3xi32>
    bits dense_resource<b> : tensor<2xi8>
}
{-#
  dialect_resources: {
    builtin: {
      c: "0x01000000000000000100000001000000",
      b: "0x010000000705"
    }
  }
#-}

// -----

// rows [2]: range
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  // expected-error@+1 {{row 1 is of class 2, but there are 2}}
  sattn.rows @r heads 1 rows 3 cols 3 classes 2 class_of dense_resource<c> : tensor<3xi32>
    bits dense_resource<b> : tensor<2xi8>
}
{-#
  dialect_resources: {
    builtin: {
      c: "0x04000000000000000200000001000000",
      b: "0x010000000705"
    }
  }
#-}

// -----

// rows [3]: bytes
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  // expected-error@+1 {{bits is 'tensor<3xi8>', wanted tensor<2xi8>}}
  sattn.rows @r heads 1 rows 3 cols 3 classes 2 class_of dense_resource<c> : tensor<3xi32>
    bits dense_resource<b> : tensor<3xi8>
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

// rows [3]: bits beyond the columns
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  // expected-error@+1 {{class 0 has a bit set beyond its 3 columns}}
  sattn.rows @r heads 1 rows 3 cols 3 classes 2 class_of dense_resource<c> : tensor<3xi32>
    bits dense_resource<b> : tensor<2xi8>
}
{-#
  dialect_resources: {
    builtin: {
      c: "0x04000000000000000100000001000000",
      b: "0x010000000F05"
    }
  }
#-}

// -----

// rows [3]: empty class
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  // expected-error@+1 {{class 1 keeps 0 of 3 key blocks, wanted at least 1}}
  sattn.rows @r heads 1 rows 3 cols 3 classes 2 class_of dense_resource<c> : tensor<3xi32>
    bits dense_resource<b> : tensor<2xi8>
}
{-#
  dialect_resources: {
    builtin: {
      c: "0x04000000000000000100000001000000",
      b: "0x010000000700"
    }
  }
#-}

// -----

// rows [4]: runs alone
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  // expected-error@+1 {{has runs but no begins}}
  sattn.rows @r heads 1 rows 3 cols 3 classes 2 class_of dense_resource<c> : tensor<3xi32>
    bits dense_resource<b> : tensor<2xi8> runs dense_resource<u> : tensor<6xi16>
}
{-#
  dialect_resources: {
    builtin: {
      c: "0x04000000000000000100000001000000",
      b: "0x010000000705",
      u: "0x02000000000003000200010000000100",
      g: "0x04000000000000000100000003000000"
    }
  }
#-}

// -----

// rows [4]: begins alone
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  // expected-error@+1 {{has begins but no runs}}
  sattn.rows @r heads 1 rows 3 cols 3 classes 2 class_of dense_resource<c> : tensor<3xi32>
    bits dense_resource<b> : tensor<2xi8> begins dense_resource<g> : tensor<3xi32>
}
{-#
  dialect_resources: {
    builtin: {
      c: "0x04000000000000000100000001000000",
      b: "0x010000000705",
      u: "0x02000000000003000200010000000100",
      g: "0x04000000000000000100000003000000"
    }
  }
#-}

// -----

// rows [4]: pairs
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  // expected-error@+1 {{runs has 5 words, wanted pairs}}
  sattn.rows @r heads 1 rows 3 cols 3 classes 2 class_of dense_resource<c> : tensor<3xi32>
    bits dense_resource<b> : tensor<2xi8> runs dense_resource<u> : tensor<5xi16> begins dense_resource<g> : tensor<3xi32>
}
{-#
  dialect_resources: {
    builtin: {
      c: "0x04000000000000000100000001000000",
      b: "0x010000000705",
      u: "0x02000000000003000200010000000100",
      g: "0x04000000000000000100000003000000"
    }
  }
#-}

// -----

// rows [4]: begins to end
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  // expected-error@+1 {{begins goes from 0 to 2, wanted 0 to 3}}
  sattn.rows @r heads 1 rows 3 cols 3 classes 2 class_of dense_resource<c> : tensor<3xi32>
    bits dense_resource<b> : tensor<2xi8> runs dense_resource<u> : tensor<6xi16> begins dense_resource<g> : tensor<3xi32>
}
{-#
  dialect_resources: {
    builtin: {
      c: "0x04000000000000000100000001000000",
      b: "0x010000000705",
      u: "0x02000000000003000200010000000100",
      g: "0x04000000000000000100000002000000"
    }
  }
#-}

// -----

// rows [4]: begins rise
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  // expected-error@+1 {{class 0 has runs 0 to 4, wanted a rising range within 3}}
  sattn.rows @r heads 1 rows 3 cols 3 classes 2 class_of dense_resource<c> : tensor<3xi32>
    bits dense_resource<b> : tensor<2xi8> runs dense_resource<u> : tensor<6xi16> begins dense_resource<g> : tensor<3xi32>
}
{-#
  dialect_resources: {
    builtin: {
      c: "0x04000000000000000100000001000000",
      b: "0x010000000705",
      u: "0x02000000000003000200010000000100",
      g: "0x04000000000000000400000003000000"
    }
  }
#-}

// -----

// rows [5]: a run too long
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  // expected-error@+1 {{class 0 has a run of 4 blocks from block 0, wanted at least 1 block, ending at or before block 3}}
  sattn.rows @r heads 1 rows 3 cols 3 classes 2 class_of dense_resource<c> : tensor<3xi32>
    bits dense_resource<b> : tensor<2xi8> runs dense_resource<u> : tensor<6xi16> begins dense_resource<g> : tensor<3xi32>
}
{-#
  dialect_resources: {
    builtin: {
      c: "0x04000000000000000100000001000000",
      b: "0x010000000705",
      u: "0x02000000000004000200010000000100",
      g: "0x04000000000000000100000003000000"
    }
  }
#-}

// -----

// rows [5]: runs rise
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  // expected-error@+1 {{class 1 has a run of 1 block from block 2, wanted at least 1 block, ending at or before block 0}}
  sattn.rows @r heads 1 rows 3 cols 3 classes 2 class_of dense_resource<c> : tensor<3xi32>
    bits dense_resource<b> : tensor<2xi8> runs dense_resource<u> : tensor<6xi16> begins dense_resource<g> : tensor<3xi32>
}
{-#
  dialect_resources: {
    builtin: {
      c: "0x04000000000000000100000001000000",
      b: "0x010000000705",
      u: "0x02000000000003000000010002000100",
      g: "0x04000000000000000100000003000000"
    }
  }
#-}

// -----

// rows [5]: a block not kept
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  // expected-error@+1 {{class 1 has a run over block 1, which it does not keep}}
  sattn.rows @r heads 1 rows 3 cols 3 classes 2 class_of dense_resource<c> : tensor<3xi32>
    bits dense_resource<b> : tensor<2xi8> runs dense_resource<u> : tensor<6xi16> begins dense_resource<g> : tensor<3xi32>
}
{-#
  dialect_resources: {
    builtin: {
      c: "0x04000000000000000100000001000000",
      b: "0x010000000705",
      u: "0x02000000000003000100020000000100",
      g: "0x04000000000000000100000003000000"
    }
  }
#-}

// -----

// rows [5]: a block left out
#p = #sattn.problem<model = "m", frames = 1, height = 3, width = 100, tokens = 300, max_text = 0, layers = 2, heads = 2, steps = 2, head_dim = 64, block = 128, scale = 0.125 : f64>
module attributes {sattn.problem = #p} {
  // expected-error@+1 {{class 0 has runs of 2 blocks, but keeps 3}}
  sattn.rows @r heads 1 rows 3 cols 3 classes 2 class_of dense_resource<c> : tensor<3xi32>
    bits dense_resource<b> : tensor<2xi8> runs dense_resource<u> : tensor<6xi16> begins dense_resource<g> : tensor<3xi32>
}
{-#
  dialect_resources: {
    builtin: {
      c: "0x04000000000000000100000001000000",
      b: "0x010000000705",
      u: "0x02000000010002000200010000000100",
      g: "0x04000000000000000100000003000000"
    }
  }
#-}

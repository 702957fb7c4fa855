// Class 0 keeps blocks 9 8 | 5 | 2 1 0, class 1 only block 9.
// RUN: calibatt-opt %s --sattn-coalesce-runs | FileCheck %s

// CHECK: sattn.rows @rows {{.*}} runs dense_resource<rows_runs> : tensor<8xi16> begins dense_resource<rows_begins> : tensor<3xi32>
// Pairs of first block and blocks, from the last run to the first.
// CHECK: rows_runs: "0x0200000008000200050001000000030009000100"
// CHECK: rows_begins: "0x04000000000000000300000004000000"
sattn.rows @rows heads 1 rows 2 cols 10 classes 2 class_of dense_resource<class_of> : tensor<2xi32> bits dense_resource<bits> : tensor<4xi8>

{-#
  dialect_resources: {
    builtin: {
      class_of: "0x040000000000000001000000",
      bits: "0x0100000027030002"
    }
  }
#-}

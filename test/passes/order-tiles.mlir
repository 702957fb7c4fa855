// Classes of 1, 3 and 2 visits: tiles 1 5 (3 visits), 2 3 (2), 0 4 (1), equal ones in order of row ids.
// RUN: calibatt-opt %s --sattn-order-tiles | FileCheck %s

// CHECK: sattn.kernel @k {{.*}} order dense_resource<rows_order> : tensor<6xi16>
// CHECK: rows_order: "0x02000000010005000200030000000400"
sattn.rows @rows heads 2 rows 3 cols 3 classes 3 class_of dense_resource<class_of> : tensor<6xi32> bits dense_resource<bits> : tensor<3xi8>
sattn.kernel @k layer 0 step 0 heads 0 count 2 rows @rows

{-#
  dialect_resources: {
    builtin: {
      class_of: "0x04000000000000000100000002000000020000000000000001000000",
      bits: "0x01000000010705"
    }
  }
#-}

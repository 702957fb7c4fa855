// Classes of 1, 3 and 2 visits. Head 0 has 6 visits, head 1 has 8.
// RUN: calibatt-opt %s --sattn-order-tiles | FileCheck %s --check-prefix=HEADS
// RUN: calibatt-opt %s --sattn-order-tiles=order=longest | FileCheck %s --check-prefix=LONGEST
// RUN: not calibatt-opt %s --sattn-order-tiles=order=rows 2>&1 | FileCheck %s --check-prefix=ERROR

// Head 1 first: tiles 3 4 (3 visits), 5 (2); then 1 (3), 2 (2), 0 (1).
// HEADS: sattn.kernel @k {{.*}} order dense_resource<rows_order> : tensor<6xi16>
// HEADS: rows_order: "0x02000000030004000500010002000000"

// Tiles 1 3 4 (3 visits), 2 5 (2), 0 (1), equal ones in order of row ids.
// LONGEST: rows_order: "0x02000000010003000400020005000000"

// ERROR: order is 'rows', wanted heads or longest
sattn.rows @rows heads 2 rows 3 cols 3 classes 3 class_of dense_resource<class_of> : tensor<6xi32> bits dense_resource<bits> : tensor<3xi8>
sattn.kernel @k layer 0 step 0 heads 0 count 2 rows @rows

{-#
  dialect_resources: {
    builtin: {
      class_of: "0x04000000000000000100000002000000010000000100000002000000",
      bits: "0x01000000010705"
    }
  }
#-}

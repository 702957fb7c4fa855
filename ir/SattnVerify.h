// Checks that several verifiers of the dialect share.
#pragma once

#include "ir/Sattn.h"

namespace calibatt::sattn {

/// `attr` is tensor<count x i(bits)> and its data are there, whole and aligned.
mlir::LogicalResult checkResource(mlir::Operation *op, llvm::StringRef field,
                                  mlir::DenseResourceElementsAttr attr, unsigned bits,
                                  uint64_t count);

/// Every one of `count` mask rows of `cols` bits has a bit set and none beyond
/// the last column. `what` names a row in messages ("row", "class").
mlir::LogicalResult checkMaskRows(mlir::Operation *op, llvm::StringRef what,
                                  llvm::ArrayRef<uint8_t> bits, uint64_t count, uint32_t cols);

/// Layer, step and head are inside the problem, where the module has one.
mlir::LogicalResult checkSite(mlir::Operation *op, uint32_t layer, uint32_t head, uint32_t step);

} // namespace calibatt::sattn

// The sattn dialect in C++: generated classes, and access to row data in
// dense resources.
#pragma once

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/IR/SymbolTable.h"

#include "ir/SattnDialect.h.inc"

#include "ir/SattnEnums.h.inc"

#define GET_ATTRDEF_CLASSES
#include "ir/SattnAttrs.h.inc"

#define GET_OP_CLASSES
#include "ir/SattnOps.h.inc"

namespace calibatt::sattn {

/// The `sattn.problem` of the module around `op`, or null.
ProblemAttr problemOf(mlir::Operation *op);

/// A new resource tensor<data.size() x i(8 * sizeof(T))> named like `name`; the
/// context owns a copy of the data.
template <typename T>
mlir::DenseResourceElementsAttr makeResource(mlir::MLIRContext *context, llvm::StringRef name,
                                             llvm::ArrayRef<T> data);

/// The elements of a resource of a verified op; empty where it has none.
template <typename T> llvm::ArrayRef<T> resourceData(mlir::DenseResourceElementsAttr attr);

/// Bytes of one row of a mask or of the bits of sattn.rows.
inline size_t maskRowBytes(uint32_t cols) { return (size_t(cols) + 7) / 8; }

/// Calls `visit` with the set bits of a mask row, from the last to the first:
/// the order in which key blocks are visited.
template <typename Visit> void forEachKeptDescending(llvm::ArrayRef<uint8_t> row, Visit visit) {
  for (size_t byte = row.size(); byte-- > 0;)
    for (int bit = 7; row[byte] != 0 && bit >= 0; --bit)
      if (row[byte] >> bit & 1)
        visit(uint32_t(byte * 8 + bit));
}

/// Set bits of a mask row.
uint32_t countKept(llvm::ArrayRef<uint8_t> row);

} // namespace calibatt::sattn

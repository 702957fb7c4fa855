// The sattn dialect: the vocabulary of a compiled layer. See Rationale.md.
#ifndef CALIBATT_IR_SATTN_DIALECT_TD
#define CALIBATT_IR_SATTN_DIALECT_TD

include "mlir/IR/DialectBase.td"

def Sattn_Dialect : Dialect {
  let name = "sattn";
  let cppNamespace = "::calibatt::sattn";
  let summary = "calibrated sparse attention, from masks to kernels";
  let description = [{
    One module is one layer of a model. *What* is computed: `sattn.mask`,
    `sattn.site`. *How*: `sattn.rows`, `sattn.kernel`. *Where*: `sattn.route`.
    The module attribute `sattn.problem` says what all of it is sized for, and
    `sattn.remarks` (an array of strings) carries what the user should hear.
  }];
  let useDefaultAttributePrinterParser = 1;
  let hasOperationAttrVerify = 1;
  let extraClassDeclaration = [{
    /// Module attribute of type ProblemAttr.
    static constexpr ::llvm::StringLiteral getProblemAttrName() { return "sattn.problem"; }
    /// Module attribute: an ArrayAttr of StringAttr.
    static constexpr ::llvm::StringLiteral getRemarksAttrName() { return "sattn.remarks"; }
  }];
}

#endif

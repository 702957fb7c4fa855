// Operations of the sattn dialect. The numbers in brackets are those of the
// verifiers (SattnOps.cpp, SattnVerify.cpp).
#ifndef CALIBATT_IR_SATTN_OPS_TD
#define CALIBATT_IR_SATTN_OPS_TD

include "ir/SattnAttrs.td"
include "mlir/IR/BuiltinAttributeInterfaces.td"
include "mlir/IR/OpBase.td"
include "mlir/IR/SymbolInterfaces.td"

class Sattn_Op<string mnemonic, list<Trait> traits = []> : Op<Sattn_Dialect, mnemonic, traits>;

/// Row data: bytes beside the IR, dropped with the context and never uniqued.
def Sattn_Resource
    : Attr<CPred<"::llvm::isa<::mlir::DenseResourceElementsAttr>($_self)">, "a dense resource"> {
  let storageType = "::mlir::DenseResourceElementsAttr";
  let returnType = "::mlir::DenseResourceElementsAttr";
  let convertFromStorage = "$_self";
}

def Sattn_MaskOp : Sattn_Op<"mask", [Symbol, HasParent<"::mlir::ModuleOp">]> {
  let summary = "which key blocks each query block keeps";
  let description = [{
    `rows` x `cols` bits in the byte format of a profile: rows row-major, each
    padded to whole bytes with zero bits, least significant bit first.

    ```mlir
    sattn.mask @mask_0 4 x 4 dense_resource<mask_0> : tensor<4xi8>
    ```
    Constraints: [1] rows and cols are at least 1; [2] `bits` is
    tensor<(rows * ceil(cols / 8)) x i8> and holds that many bytes; [3] bits
    beyond the last column are zero; [4] no row is empty; [5] the shape is that
    of the problem.
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, I32Attr:$rows, I32Attr:$cols,
                       Sattn_Resource:$bits);
  let assemblyFormat = "$sym_name $rows `x` $cols $bits attr-dict";
  let hasVerifier = 1;
}

def Sattn_SiteOp : Sattn_Op<"site", [HasParent<"::mlir::ModuleOp">,
                                     DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "one (layer, head, step) and what it computes";
  let description = [{
    A site has a mask, or it is repetitive: its kernel computes anchor rows.
    `kept`, `density`, `repetition` and `row_max`, the largest scaled logit in
    nats, are the profile's scalars of the site; without `row_max` nobody knows it.

    ```mlir
    sattn.site layer 0 head 1 step 2 mask @mask_0 kept 0.9 density 0.5 repetition 0.1 row_max 21.5
    sattn.site layer 0 head 1 step 3 repetitive kept 1.0 density 1.0 repetition 0.9
    ```
    Constraints: [1] layer, head and step are inside the problem; [2] kept mass
    is in 0..1 and density in 0..1, not 0; [3] the symbol is a sattn.mask;
    [4] no two sites of a module are the same.
  }];
  let arguments = (ins I32Attr:$layer, I32Attr:$head, I32Attr:$step,
                       OptionalAttr<FlatSymbolRefAttr>:$mask, F32Attr:$kept, F32Attr:$density,
                       F32Attr:$repetition, OptionalAttr<F32Attr>:$row_max);
  let assemblyFormat = [{
    `layer` $layer `head` $head `step` $step (`mask` $mask^) : (`repetitive`)?
    `kept` $kept `density` $density `repetition` $repetition
    (`row_max` $row_max^)? attr-dict
  }];
  let hasVerifier = 1;
}

def Sattn_RowsOp : Sattn_Op<"rows", [Symbol, HasParent<"::mlir::ModuleOp">]> {
  let summary = "the row classes of consecutive heads";
  let description = [{
    Row `head * rows + q` belongs to class `class_of[head * rows + q]`; class c
    keeps the key blocks of row c of `bits` (format of sattn.mask) and visits
    them from the last to the first. After coalesce-runs, the runs of class c
    are the (first block, blocks) pairs number `begins[c]` to `begins[c + 1]`
    of `runs`, also from the last to the first.

    ```mlir
    sattn.rows @rows_0 heads 2 rows 4 cols 4 classes 3
      class_of dense_resource<class_of> : tensor<8xi32> bits dense_resource<bits> : tensor<3xi8>
      runs dense_resource<runs> : tensor<8xi16> begins dense_resource<begins> : tensor<4xi32>
    ```
    Of the heads in `repetitive` only anchor queries are computed, packed into fewer
    tiles than `rows`; every row's output comes from its class all the same.

    Constraints: [1] heads, rows, cols and classes are at least 1; [2] `class_of`
    is tensor<(heads * rows) x i32>, each below `classes`; [6] `repetitive` rises,
    its heads exist, and the rows of such a head are of one class; [3] `bits` is as in a
    mask of `classes` rows, no class empty; [4] `runs` is tensor<2n x i16> and
    `begins` is tensor<(classes + 1) x i32>, both or neither, rising from 0 to n;
    [5] the runs of a class fall, do not overlap, and cover exactly its key blocks.
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, I32Attr:$heads, I32Attr:$rows, I32Attr:$cols,
                       I32Attr:$classes, Sattn_Resource:$class_of, Sattn_Resource:$bits,
                       OptionalAttr<DenseI32ArrayAttr>:$repetitive,
                       OptionalAttr<Sattn_Resource>:$runs, OptionalAttr<Sattn_Resource>:$begins);
  let assemblyFormat = [{
    $sym_name `heads` $heads `rows` $rows `cols` $cols `classes` $classes
    (`repetitive` $repetitive^)? `class_of` $class_of `bits` $bits (`runs` $runs^)? (`begins` $begins^)? attr-dict
  }];
  let extraClassDeclaration = [{
    /// Whether head number `head` of these is repetitive.
    bool isRepetitive(uint32_t head) {
      return getRepetitive() && ::llvm::is_contained(*getRepetitive(), int32_t(head));
    }
  }];
  let hasVerifier = 1;
}

def Sattn_KernelOp : Sattn_Op<"kernel", [Symbol, NoTerminator, NoRegionArguments,
                                         HasParent<"::mlir::ModuleOp">,
                                         DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "one compiled kernel";
  let description = [{
    Covers `heads` heads from `head_base` on, whose schedule is `@rows`. `form`,
    `target` and `spec` appear with choose-form, the region (of `full` and
    `schedule`) with unroll-schedule, `order` with order-tiles: row ids
    `(head - head_base) * rows + q` in launch order. `dense` marks the package's
    fallback kernel; `reason`, `predicted_micros` (one launch), `code_bytes` and
    `compile_seconds` are the cost model's.

    ```mlir
    sattn.kernel @kernel_0 layer 0 step 1 heads 0 count 2 rows @rows_0
        form schedule target "sm_90a"
        spec <head_dim = 64, tokens = 420, scale = 1.250000e-01 : f32, stages = 2,
              ping_pong = true, lazy_rescale = true, watchdog = false>
        order dense_resource<order> : tensor<8xi16> {
      sattn.row_class 0 {
        sattn.visit 3 tail
        sattn.visit 0
      }
    }
    ```
    Constraints: [1] layer, step and heads are inside the problem; [2] form,
    target and spec are all set or all absent; [3] only `full` and `schedule`
    have a region; [4] the region holds the row classes of `rows`, each once, in
    ascending order; [5] the visits of a class are its key blocks from the last
    to the first; [6] a visit is `tail` where it is the last key block and that
    is short; [7] `order` is tensor<(heads * rows) x i16>, a permutation; [8] the
    symbol is a sattn.rows of as many heads and the problem's blocks; [9] the
    spec agrees with the problem.
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, UnitAttr:$dense, I32Attr:$layer, I32Attr:$step,
                       I32Attr:$head_base, I32Attr:$heads, FlatSymbolRefAttr:$rows,
                       OptionalAttr<Sattn_KernelForm>:$form, OptionalAttr<StrAttr>:$target,
                       OptionalAttr<Sattn_Spec>:$spec, OptionalAttr<Sattn_Resource>:$order,
                       OptionalAttr<StrAttr>:$reason, OptionalAttr<F32Attr>:$predicted_micros,
                       OptionalAttr<I64Attr>:$code_bytes, OptionalAttr<F32Attr>:$compile_seconds);
  let regions = (region MaxSizedRegion<1>:$body);
  let builders = [
    // A kernel whose form is not decided yet.
    OpBuilder<(ins "::llvm::StringRef":$name, "uint32_t":$layer, "uint32_t":$step,
                   "uint32_t":$headBase, "::calibatt::sattn::RowsOp":$rows)>
  ];
  let extraClassDeclaration = [{
    /// Whether the form is decided and writes out its visits.
    bool isUnrolled() {
      return getForm() && (*getForm() == KernelForm::Full || *getForm() == KernelForm::Schedule);
    }
  }];
  let assemblyFormat = [{
    $sym_name (`dense` $dense^)? `layer` $layer `step` $step `heads` $head_base `count` $heads
    `rows` $rows (`form` $form^)? (`target` $target^)? (`spec` $spec^)? (`order` $order^)?
    attr-dict-with-keyword ($body^)?
  }];
  let hasVerifier = 1;
}

def Sattn_RowClassOp : Sattn_Op<"row_class", [SingleBlock, NoTerminator, NoRegionArguments,
                                              HasParent<"KernelOp">]> {
  let summary = "the visits of one row class, unrolled";
  let description = [{
    Constraints: [1] holds at least one sattn.visit and nothing else.
  }];
  let arguments = (ins I32Attr:$index);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = "$index $body attr-dict";
  let hasVerifier = 1;
}

def Sattn_VisitOp : Sattn_Op<"visit", [HasParent<"RowClassOp">]> {
  let summary = "one key block: one load of K and V and one MMA step";
  let arguments = (ins I32Attr:$block, UnitAttr:$tail);
  let assemblyFormat = "$block (`tail` $tail^)? attr-dict";
}

def Sattn_RouteOp : Sattn_Op<"route", [HasParent<"::mlir::ModuleOp">,
                                       DeclareOpInterfaceMethods<SymbolUserOpInterface>]> {
  let summary = "which kernel computes a site";
  let description = [{
    ```mlir
    sattn.route layer 0 head 1 step 2 to @kernel_0
    ```
    Constraints: [1] layer, head and step are inside the problem; [2] the symbol
    is a sattn.kernel of the same layer that covers the head; [3] no two routes of
    a module are of the same site.
  }];
  let arguments = (ins I32Attr:$layer, I32Attr:$head, I32Attr:$step, FlatSymbolRefAttr:$kernel);
  let assemblyFormat = "`layer` $layer `head` $head `step` $step `to` $kernel attr-dict";
  let hasVerifier = 1;
}

#endif

// Attributes of the sattn dialect: small facts only, never row data.
#ifndef CALIBATT_IR_SATTN_ATTRS_TD
#define CALIBATT_IR_SATTN_ATTRS_TD

include "ir/SattnDialect.td"
include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/EnumAttr.td"

class Sattn_Attr<string name, string attrMnemonic> : AttrDef<Sattn_Dialect, name> {
  let mnemonic = attrMnemonic;
}

def Sattn_Problem : Sattn_Attr<"Problem", "problem"> {
  let summary = "what every kernel of a module is compiled for";
  let description = [{
    The patch grid, the sequence length in tokens (video and at most `max_text`
    joint text tokens), the ranges of layer, head and step, and the anchor rows a
    frame of repetitive heads (0: such heads are computed whole).

    ```mlir
    #sattn.problem<model = "sample", frames = 3, height = 7, width = 20, tokens = 420,
                   max_text = 0, layers = 2, heads = 2, steps = 4, head_dim = 64,
                   block = 128, scale = 1.250000e-01 : f64>
    ```
  }];
  let parameters = (ins
    StringRefParameter<"model id, free text">:$model,
    "uint32_t":$frames, "uint32_t":$height, "uint32_t":$width,
    "uint32_t":$tokens, "uint32_t":$max_text,
    "uint32_t":$layers, "uint32_t":$heads, "uint32_t":$steps,
    "uint32_t":$head_dim, "uint32_t":$block,
    "::mlir::FloatAttr":$scale, DefaultValuedParameter<"uint32_t", "0">:$anchors
  );
  let assemblyFormat = "`<` struct(params) `>`";
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{
    /// Blocks of the sequence; the last may be a tail.
    uint32_t getBlocks() const { return getTokens() / getBlock() + hasTail(); }
    /// Whether the last block is short.
    bool hasTail() const { return getTokens() % getBlock() != 0; }
  }];
}

def Sattn_Spec : Sattn_Attr<"Spec", "spec"> {
  let summary = "compile-time facts of a kernel, field for field an AttentionSpec";
  let parameters = (ins
    "uint32_t":$head_dim, "uint32_t":$tokens, "::mlir::FloatAttr":$scale,
    "uint32_t":$stages, "bool":$ping_pong, "bool":$lazy_rescale, "bool":$watchdog,
    DefaultValuedParameter<"bool", "false">:$persistent,
    DefaultValuedParameter<"bool", "false">:$frozen_max,
    DefaultValuedParameter<"bool", "false">:$mma_sums,
    DefaultValuedParameter<"uint32_t", "0">:$grid_height,
    DefaultValuedParameter<"uint32_t", "0">:$grid_width,
    DefaultValuedParameter<"uint32_t", "0">:$anchors
  );
  let assemblyFormat = "`<` struct(params) `>`";
  let genVerifyDecl = 1;
}

def Sattn_FormFull : I32EnumAttrCase<"Full", 0, "full">;
def Sattn_FormSchedule : I32EnumAttrCase<"Schedule", 1, "schedule">;
def Sattn_FormRuns : I32EnumAttrCase<"Runs", 2, "runs">;
def Sattn_FormTable : I32EnumAttrCase<"Table", 3, "table">;
def Sattn_KernelForm : I32EnumAttr<"KernelForm", "how a schedule is baked into a kernel",
    [Sattn_FormFull, Sattn_FormSchedule, Sattn_FormRuns, Sattn_FormTable]> {
  let cppNamespace = "::calibatt::sattn";
}

#endif

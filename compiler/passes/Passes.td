// The passes from a profile to checked kernels, in pipeline order. Each says
// whether it is exact (computes the profile's masks) or superset (may add blocks).
#ifndef CALIBATT_COMPILER_PASSES_TD
#define CALIBATT_COMPILER_PASSES_TD

include "mlir/Pass/PassBase.td"

class SattnPass<string name> : Pass<"sattn-" # name, "::mlir::ModuleOp"> {
  let dependentDialects = ["::calibatt::sattn::SattnDialect"];
}

def ImportProfile : SattnPass<"import-profile"> {
  let summary = "reads one layer of a profile into an empty module";
  let description = [{
    Exact. Equal masks of a layer become one sattn.mask. Locations are the
    profile's path and "layer L head H step S".
  }];
  let options = [
    Option<"path", "path", "std::string", "", "the profile (*.calib.safetensors)">,
    Option<"layer", "layer", "uint32_t", "0", "the layer to read">,
  ];
}

def ShareSteps : SattnPass<"share-steps"> {
  let summary = "lets steps of one head with nearly equal masks share their union";
  let description = [{
    Superset, off by default. Consecutive steps form a group while every pair of
    its masks has an intersection over union of at least `tau`; all of them then
    compute the union, so that no kept block is lost. The added density is
    reported as a remark.
  }];
  let options = [
    Option<"tau", "tau", "double", "0.97", "least intersection over union, more than 0, at most 1">,
  ];
}

def FormRows : SattnPass<"form-rows"> {
  let summary = "merges equal rows into classes and makes the kernels that walk them";
  let description = [{
    Exact. With `granularity=step` one kernel covers all heads of a (layer, step)
    and its row classes go across them; with `head` every site has its own kernel.
    Kernels with the same masks share one sattn.rows. Repetitive sites become
    dense rows, and a remark says so.
  }];
  let options = [
    Option<"granularity", "granularity", "std::string", "\"step\"", "step or head">,
  ];
}

def CoalesceRuns : SattnPass<"coalesce-runs"> {
  let summary = "finds the runs of every row class";
  let description = [{
    Exact. A run is a longest sequence of consecutive key blocks, cut at the 1023
    blocks that a data image can say.
  }];
}

def ChooseForm : SattnPass<"choose-form"> {
  let summary = "decides how far each kernel is unrolled";
  let description = [{
    Exact. `auto` takes the least predicted run time and, within 1 % of it, the
    most unrolled form whose unrolled code and compile time are within the
    budget; between `runs` and `table` the smaller data image decides. A form
    named by the user is taken whatever it costs, with a warning beyond the
    budget. Dense fallback kernels are always `runs`. The kernel's `reason` says why.

    Kernels whose schedule is data have a frozen maximum or the online softmax.
    `softmax=auto` takes the online one where the sites' `row_max` predicts that
    tiles computed twice would cost more.
  }];
  let options = [
    Option<"form", "form", "std::string", "\"auto\"", "auto, full, schedule, runs or table">,
    Option<"unrollBudgetBytes", "unroll-budget-bytes", "uint64_t", "65536",
           "most bytes of unrolled code a kernel">,
    Option<"unrollBudgetSeconds", "unroll-budget-seconds", "double", "10",
           "most seconds to compile a kernel">,
    Option<"target", "target", "std::string", "\"sm_90a\"", "architecture of the code">,
    Option<"softmax", "softmax", "std::string", "\"auto\"", "auto, frozen or online">,
    Option<"tuning", "tuning", "std::string", "\"\"",
           "fields of the spec that are choices, as in stages=3">,
  ];
}

def UnrollSchedule : SattnPass<"unroll-schedule"> {
  let summary = "writes out the visits of full and schedule kernels";
  let description = [{
    Exact. One sattn.visit a key block of a row class, from the last block to
    the first; each becomes one load of K and V, in the emitted code of `full` and
    as part of a run of immediates in `schedule`.
  }];
}

def OrderTiles : SattnPass<"order-tiles"> {
  let summary = "orders the query tiles of every kernel";
  let description = [{
    Exact. `heads`: head after head, the head with the most visits first, and
    within a head longest-first: the tiles that run together read the keys of one
    head, which fit the L2 cache, and the last head's shortest tiles end the
    launch. `longest`: longest-first over all heads, the better balance where
    memory does not matter.
  }];
  let options = [
    Option<"order", "order", "std::string", "\"heads\"", "heads or longest">,
  ];
}

def OutlineKernels : SattnPass<"outline-kernels"> {
  let summary = "keeps one of each set of equal kernels and routes the sites to it";
  let description = [{
    Exact. Kernels of one head range are equal when schedule, form, target, spec
    and order are. Every site gets one sattn.route.
  }];
}

def CheckResources : SattnPass<"check-resources"> {
  let summary = "checks every kernel against what target and formats can hold";
  let description = [{
    Exact; changes nothing. Shared memory, head_dim, sequence length, rows,
    heads, visits a row, row classes, runs and launch order, and that every site
    has a route.
  }];
}

#endif

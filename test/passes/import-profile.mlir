// One layer of a synthetic profile; every site's location names it.
// REQUIRES: calibatt
// RUN: calibatt profile synth --preset tiny --seed 7 -o %t.calib.safetensors
// RUN: calibatt-opt %s --sattn-import-profile="path=%t.calib.safetensors layer=1" --mlir-print-debuginfo | FileCheck %s
// RUN: calibatt-opt %s --sattn-import-profile="path=%t.calib.safetensors layer=1" --sattn-pipeline 2>/dev/null | FileCheck %s --check-prefix=ALL
// RUN: calibatt-opt %s --sattn-import-profile="path=%t.calib.safetensors layer=1" --sattn-pipeline="form=full granularity=head unroll-budget-bytes=1" 2>&1 >/dev/null | FileCheck %s --check-prefix=SITE
// RUN: not calibatt-opt %s --sattn-import-profile="path=%t.calib.safetensors layer=99" 2>&1 | FileCheck %s --check-prefix=LAYER
// RUN: not calibatt-opt %s --sattn-import-profile=path=%t.nowhere 2>&1 | FileCheck %s --check-prefix=PATH

// CHECK: sattn.problem = #sattn.problem<model = "{{.*}}", {{.*}} block = 128, scale = {{.*}} : f64, anchors = 5>
// CHECK: sattn.mask @mask_0
// CHECK: sattn.site layer 1 head 0 step 0 {{(mask @mask_[0-9]+|repetitive)}} kept
// CHECK: [[FILE:#loc[0-9]*]] = loc("{{.*}}.calib.safetensors")
// CHECK: loc("layer 1 head 0 step 0"([[FILE]]))

// ALL: sattn.kernel @kernel_l1_s0 layer 1 step 0
// ALL: sattn.route layer 1 head 0 step 0 to @kernel_l1_s0

// SITE: warning: loc("layer 1 head 0 step 0"("{{.*}}.calib.safetensors")): form full was asked for, over the budget

// LAYER: error: {{.*}}layer 99 is not one of the profile's
// PATH: error: {{.*}}.nowhere
module {}

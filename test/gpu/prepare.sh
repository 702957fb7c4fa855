#!/usr/bin/env bash
# Makes what test/gpu/run.sh runs, on the machine that has the compiler: packages
# of the sample and of a slice of every preset, in several forms, two packages to
# time, and the bring-up kernels. Takes about five minutes on two cores.
#
#   test/gpu/prepare.sh [BUILD]     (default: build)   -> BUILD/gpu-packages, BUILD/bringup
#
# Then on the machine with the GPU: test/gpu/run.sh BUILD BUILD/gpu-packages
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=$(cd "${1:-$root/build}" && pwd)
out=$build/gpu-packages
mkdir -p "$out" "$build/bringup"
calibatt=$build/bin/calibatt
python=${CALIBATT_PYTHON:-$root/.venv/bin/python}

# compile NAME [OPTION...]: NAME.calib.safetensors is there.
compile() {
  local name=$1
  shift
  "$calibatt" compile "$out/$name.calib.safetensors" -o "$out/$name.calibatt" -j "$(nproc)" --no-cache "$@" 2>/dev/null
}
# again NAME AS [OPTION...]: the same profile compiled with other options.
again() {
  local name=$1 as=$2
  shift 2
  cp "$out/$name.calib.safetensors" "$out/$as.calib.safetensors"
  compile "$as" "$@"
}

"$build/bin/build-bringup" "$build/bringup"
"$calibatt" calibrate "$root"/examples/sample/prompt*.safetensors -o "$out/sample.calib.safetensors" >/dev/null
compile sample
again sample sample-full-head --form full --granularity head
again sample sample-table --form table
"$calibatt" profile synth --preset tiny -o "$out/tiny.calib.safetensors" >/dev/null
compile tiny
again tiny tiny-full-head --form full --granularity head
again tiny tiny-schedule-head --form schedule --granularity head
again tiny tiny-runs --form runs
# The levers of the kernels, switched off one after the other.
again tiny tiny-runs-lazy --form runs --tune persistent=0,frozen_max=0,mma_sums=0
again tiny tiny-table-lists --form table --tune frozen_max=0,mma_sums=0
again tiny tiny-runs-sums --form runs --tune frozen_max=0
again tiny tiny-runs-frozen --form runs --tune mma_sums=0
for preset in wan2.1-1.3b-480p wan2.1-14b-480p wan2.1-14b-720p; do
  "$calibatt" profile synth --preset $preset --layers 1 --heads 2 --steps 2 -o "$out/$preset.calib.safetensors" >/dev/null
  compile $preset
done
again wan2.1-14b-480p wan2.1-14b-480p-table --form table
again wan2.1-14b-480p wan2.1-14b-480p-schedule-head --form schedule --granularity head

# To time: 40 heads at 480p, the preset's masks (a middle layer) and every block kept.
"$calibatt" profile synth --preset wan2.1-14b-480p --layers 3 --steps 3 -o "$out/480p-bench.calib.safetensors" >/dev/null
compile 480p-bench --form runs
"$python" - "$out/480p-dense-masks.safetensors" <<'PYTHON'
import json, sys
import numpy, safetensors.numpy
document = {"format": "calibatt.bitmaps", "version": "1.0", "model": "dense", "grid": [21, 30, 52],
            "layers": 1, "heads": 40, "head_dim": 128,
            "steps": [{"timestep": 0.0, "sigma": 0.0, "module": "transformer"}]}
safetensors.numpy.save_file({"mask/0/0": numpy.full((40, 256, 32), 255, numpy.uint8)}, sys.argv[1],
                            {"calibatt": json.dumps(document)})
PYTHON
"$calibatt" profile import "$out/480p-dense-masks.safetensors" -o "$out/480p-dense-bench.calib.safetensors" >/dev/null
compile 480p-dense-bench --form runs
rm -f "$out/480p-dense-masks.safetensors"
# What travels to the GPU machine.
du -sh "$out" "$build/bringup"

#!/usr/bin/env bash
# Calibration on a GPU, from Q and K to profiles and packages that run.
#
#   test/gpu/calibrate.sh prepare BUILD OUT          where the compiler is: the packages, in OUT
#   test/gpu/calibrate.sh run BUILD OUT [RESULTS]    where the GPU is: calibrates, checks and times
#   test/gpu/calibrate.sh compile BUILD OUT RESULTS  where the compiler is: the profile that `run` left
#   test/gpu/calibrate.sh use BUILD OUT [RESULTS]    where the GPU is: verifies and times what was compiled
#   test/gpu/calibrate.sh host BUILD OUT             all of it at a small grid on the CPU
#
# BUILD has bin/calibatt, lib/libcalibatt.so and lib/libcalibatt_profile.so, and to prepare and compile also
# bin/calibatt-compile. RESULTS (default: BUILD/calibrate-results) gets calibrate.json and calibrate.md,
# wan-shapes.calib.safetensors, pipeline.json, use.json, use.md and the logs. The Python (CALIBATT_PYTHON)
# needs torch and NumPy. Where it has diffusers as well, a tiny pipeline is calibrated and run: diffusers
# is pure Python and may be on PYTHONPATH, beside what it imports: transformers, tokenizers,
# huggingface_hub, safetensors, regex, filelock, requests and pillow.
# Exits 1 where a check fails, 77 where there is no GPU, or for `host` no torch.
set -euo pipefail
if [ $# -lt 3 ]; then
  sed -n '2,17s/^# \{0,1\}//p' "$0"
  exit 2
fi
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
build=$(cd "$2" && pwd)
mkdir -p "$3" && out=$(cd "$3" && pwd)
results=${4:-$build/calibrate-results}
python=${CALIBATT_PYTHON:-python3}
export CALIBATT_LIBRARY=${CALIBATT_LIBRARY:-$build/lib/libcalibatt.so} PYTHONDONTWRITEBYTECODE=1
export CALIBATT_PROFILE_LIBRARY=${CALIBATT_PROFILE_LIBRARY:-$build/lib/libcalibatt_profile.so}
calibatt=$build/bin/calibatt
shape=(21x30x52 40 128) device=cuda place=cuda:0 size=() runs=10
status=0

# check NAME LIMIT COMMAND...: under a time limit, its output also in RESULTS/NAME.log.
check() {
  local name=$1 limit=$2 code=0
  shift 2
  timeout --kill-after=10 "$limit" "$@" 2>&1 | tee "$results/$name.log" || code=${PIPESTATUS[0]}
  if [ "$code" -ne 0 ] && [ "$code" -ne 77 ]; then
    echo "FAILED: $name (exit $code)"
    status=1
  fi
}

# package NAME GRID HEADS DIM
package() {
  "$build/bin/calibatt-compile" --calibration --grid "$2" --heads "$3" --head-dim "$4" \
    -o "$out/$1.calibatt" >/dev/null
}

prepare() {
  package calibration-shapes "${shape[@]}"
  package calibration-tiny 3x7x20 2 64
  # Weights, profile and package of the tiny pipeline; without diffusers `run` does the rest.
  "$python" "$here/calibrate_pipeline.py" prepare "$out" --calibatt "$calibatt" || [ $? -eq 77 ]
  du -sh "$out"
}

run() {
  mkdir -p "$results"
  check shapes 400 "$python" "$here/calibrate.py" "$out/calibration-shapes.calibatt" \
    --calibatt "$calibatt" --out "$results" --device $device "${size[@]}"
  check pipeline 150 "$python" "$here/calibrate_pipeline.py" run "$out" --calibatt "$calibatt" \
    --device $device --json "$results/pipeline.json"
}

compile() {
  cp "$results/wan-shapes.calib.safetensors" "$out/"
  "$calibatt" compile "$out/wan-shapes.calib.safetensors" -o "$out/wan-shapes.calibatt" >/dev/null
  du -sh "$out"
}

use() {
  mkdir -p "$results"
  check use-verify 300 "$calibatt" verify "$out/wan-shapes.calibatt" \
    --profile "$out/wan-shapes.calib.safetensors" --device $place
  check use 300 "$python" "$here/calibrate_use.py" "$out/wan-shapes.calibatt" --device $device \
    --runs $runs --json "$results/use.json" --markdown "$results/use.md"
}

needs_gpu() {
  if ! nvidia-smi -L 2>/dev/null | grep -q GPU; then
    echo "skipped: no GPU here"
    exit 77
  fi
}

case $1 in
prepare) prepare ;;
run)
  needs_gpu
  run
  ;;
compile) compile ;;
use)
  needs_gpu
  use
  ;;
host)
  if ! "$python" -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("torch") is None)'; then
    echo "skipped: $python has no torch (set CALIBATT_PYTHON)"
    exit 77
  fi
  shape=(3x12x24 6 128) device=host place=host runs=1 results=$out/results
  size=(--layers 1 --steps 2 --prompts 2)
  prepare
  run
  compile
  use
  ;;
*)
  echo "calibrate.sh: $1 is none of prepare, run, compile, use and host" >&2
  exit 2
  ;;
esac
exit $status

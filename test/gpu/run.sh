#!/usr/bin/env bash
# Runs everything that needs a GPU, from built binaries and packages alone: no compiler, no CMake.
#
#   test/gpu/run.sh BUILD PACKAGES [RESULTS]       (test/gpu/prepare.sh makes both)
#
# BUILD    folder with bin/calibatt and lib/libcalibatt.so, and bringup/*.cubin
# PACKAGES folder with *.calibatt; P.calibatt is verified against P.calib.safetensors where that is
#          beside it, tiny*.calibatt and sample*.calibatt are also run under compute-sanitizer, and
#          *bench*.calibatt are timed (all of them where none is named so)
# RESULTS  folder for the tables and logs (default: BUILD/gpu-results)
#
# What is absent is skipped with a reason. Exits 1 where a check fails, 77 where there is no GPU or no
# package at all.
set -uo pipefail
if [ $# -lt 2 ] || [ $# -gt 3 ]; then
  sed -n '2,14s/^# \{0,1\}//p' "$0"
  exit 2
fi
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
build=$(cd "$1" && pwd) || exit 2
if [ ! -e /dev/nvidiactl ] && ! nvidia-smi -L 2>/dev/null | grep -q GPU; then
  echo "skipped: no GPU here"
  exit 77
fi
if ! compgen -G "$2/*.calibatt" >/dev/null; then
  echo "skipped: $2 has no *.calibatt: put packages there with calibatt compile"
  exit 77
fi
packages=$(cd "$2" && pwd) || exit 2
results=${3:-$build/gpu-results}
mkdir -p "$results" && results=$(cd "$results" && pwd) || exit 2
python=${CALIBATT_PYTHON:-python3}
export CALIBATT_LIBRARY=${CALIBATT_LIBRARY:-$build/lib/libcalibatt.so} PYTHONDONTWRITEBYTECODE=1
calibatt=$build/bin/calibatt
failures=0 skips=0

say() { printf '\n== %s\n' "$*"; }
skip() { printf 'skipped: %s\n' "$*"; skips=$((skips + 1)); }
# check NAME LIMIT COMMAND...: runs it under a time limit (a kernel that waits for a barrier that
# never comes would run for ever), keeps its output in RESULTS/NAME.log.
check() {
  local name=$1 limit=$2 status
  shift 2
  say "$name"
  timeout --kill-after=10 "$limit" "$@" 2>&1 | tee "$results/$name.log"
  status=${PIPESTATUS[0]}
  if [ "$status" -ne 0 ]; then
    printf 'FAILED: %s (exit %s%s)\n' "$name" "$status" "$([ "$status" = 124 ] && echo ', timed out')"
    failures=$((failures + 1))
  fi
}

shopt -s nullglob
all=("$packages"/*.calibatt)
small=("$packages"/tiny*.calibatt "$packages"/sample*.calibatt)
timed=("$packages"/*bench*.calibatt)
[ ${#timed[@]} -gt 0 ] || timed=("${all[@]}")
say machine
if command -v nvidia-smi >/dev/null; then
  nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.max.sm,power.draw,power.limit \
    --format=csv | tee "$results/machine.log"
else
  skip "nvidia-smi is not installed: clocks and power are not recorded"
fi

# First what a kernel is made of, so that a failure below has a name.
if ! compgen -G "$build/bringup/*.cubin" >/dev/null; then
  skip "bring-up: no cubins in $build/bringup"
elif ! "$python" -c 'import cuda.bindings, torch' 2>/dev/null; then
  skip "bring-up: $python has no torch or no cuda-bindings"
else
  check bringup 300 "$python" "$here/bringup/bringup.py" "$build/bringup"
fi

if [ -x "$calibatt" ]; then
  for package in "${all[@]}"; do
    name=$(basename "$package" .calibatt)
    profile=$packages/$name.calib.safetensors
    if [ -f "$profile" ]; then
      check "verify-$name" 300 "$calibatt" verify "$package" --profile "$profile" --device cuda:0
    else
      check "verify-$name" 300 "$calibatt" verify "$package" --device cuda:0
    fi
  done
else
  skip "verify: $calibatt is not there"
fi

sanitizer=$(command -v compute-sanitizer || echo /usr/local/cuda/bin/compute-sanitizer)
if [ ! -x "$sanitizer" ]; then
  skip "sanitizers: compute-sanitizer is not installed"
elif [ ! -x "$calibatt" ]; then
  skip "sanitizers: $calibatt is not there"
elif [ ${#small[@]} -eq 0 ]; then
  skip "sanitizers: there is no tiny*.calibatt or sample*.calibatt"
else
  for tool in memcheck initcheck racecheck synccheck; do
    for package in "${small[@]}"; do
      check "$tool-$(basename "$package" .calibatt)" 300 "$sanitizer" --tool $tool \
        --error-exitcode 9 "$calibatt" verify "$package" --device cuda:0 --sites 4
    done
  done
fi

if "$python" -c 'import torch; raise SystemExit(not torch.cuda.is_available())' 2>/dev/null; then
  # A frozen maximum without sums by the tensor cores is a lever that nothing ships: less exact than what
  # accuracy.py asks (codegen/device/NOTES.md).
  exact=()
  for package in "${all[@]}"; do [[ $package == *-frozen.calibatt ]] || exact+=("$package"); done
  check accuracy 600 "$python" "$here/accuracy.py" "${exact[@]}" --json "$results/accuracy.json"
  check hostile 600 "$python" "$here/hostile.py" "${small[@]}" --json "$results/hostile.json"
  check session 300 "$python" "$here/session_test.py" "${small[0]:-${all[0]}}"
  check captures 300 "$python" "$here/capture_test.py" "${small[0]:-${all[0]}}"
  check bench 600 "$python" "$here/../benchmark/compare.py" "${timed[@]}" --site 0/0 --site 1/1 \
    --json "$results/bench.json" --markdown "$results/bench.md"
else
  skip "accuracy, session, captures, bench: $python has no torch that finds a GPU (set CALIBATT_PYTHON)"
fi

say "done: $failures failed, $skips skipped; logs in $results"
[ "$failures" -eq 0 ]

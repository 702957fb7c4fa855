#!/usr/bin/env bash
# Block energies on a GPU, from packages alone.
#
#   test/gpu/energy.sh prepare BUILD OUT         where the compiler is: the packages, in OUT
#   test/gpu/energy.sh run BUILD OUT [RESULTS]   where the GPU is: verifies and times them
#
# BUILD has bin/calibatt-compile and lib/libcalibatt.so. RESULTS (default: BUILD/energy-results) gets the logs,
# energy.json and energy.md. Exits 1 where a check fails, 77 where there is no GPU.
set -euo pipefail
if [ $# -lt 3 ]; then
  sed -n '2,8s/^# \{0,1\}//p' "$0"
  exit 2
fi
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
build=$(cd "$2" && pwd)
mkdir -p "$3" && out=$(cd "$3" && pwd)

# package NAME GRID HEADS DIM
package() {
  "$build/bin/calibatt-compile" --calibration --grid "$2" --heads "$3" --head-dim "$4" \
    -o "$out/$1.calibatt" >/dev/null
}

case $1 in
prepare)
  package small-300 2x10x15 2 128
  package small-1217 1x1x1217 3 64
  package small-131 1x1x131 2 128
  package small-1 1x1x1 1 64
  package small-512 2x16x16 2 128
  package head-480p 21x30x52 2 128
  package time-480p 21x30x52 40 128
  package time-720p 21x45x80 40 128
  du -sh "$out"
  ;;
run)
  if ! nvidia-smi -L 2>/dev/null | grep -q GPU; then
    echo "skipped: no GPU here"
    exit 77
  fi
  results=${4:-$build/energy-results}
  mkdir -p "$results"
  python=${CALIBATT_PYTHON:-python3}
  export CALIBATT_LIBRARY=${CALIBATT_LIBRARY:-$build/lib/libcalibatt.so} PYTHONDONTWRITEBYTECODE=1
  status=0
  timeout --kill-after=10 300 "$python" "$here/energy.py" "$out"/small-*.calibatt \
    "$out"/head-*.calibatt --json "$results/verify.json" 2>&1 | tee "$results/verify.log" || status=1
  timeout --kill-after=10 200 "$python" "$here/energy.py" "$out"/time-*.calibatt --time \
    --json "$results/energy.json" --markdown "$results/energy.md" 2>&1 | tee "$results/time.log" || status=1
  exit $status
  ;;
*)
  echo "energy.sh: $1 is neither prepare nor run" >&2
  exit 2
  ;;
esac

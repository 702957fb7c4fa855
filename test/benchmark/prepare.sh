#!/usr/bin/env bash
# Makes the packages that test/benchmark/compare.py times: 40 heads at 480p and at 720p with every block
# kept, random 50, 25 and 10 % of them, the synthetic preset's masks (the middle layer and step), and all
# heads repetitive; 1, 5 (a rank of eight) and 12 heads (1.3B) of the same at 25 %; and 48 heads of 64
# (CogVideoX).
#
#   test/benchmark/prepare.sh BUILD OUT [NAME="COMPILE-OPTIONS"]...
#
# Each NAME is a variant compiled from the same profiles, as OUT/MASKS-NAME.calibatt; without one,
# `default=--form runs`. Then, where a GPU is:
#   test/benchmark/compare.py OUT/*.calibatt
# CALIBATT_BENCH_MASKS limits the masks: a pattern such as '480p-*'.
set -euo pipefail
if [ $# -lt 2 ]; then
  sed -n '2,12s/^# \{0,1\}//p' "$0"
  exit 2
fi
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
build=$(cd "$1" && pwd)
mkdir -p "$2" && out=$(cd "$2" && pwd)
shift 2
[ $# -gt 0 ] || set -- "default=--form runs"
calibatt=$build/bin/calibatt
python=${CALIBATT_PYTHON:-$root/.venv/bin/python}
only=${CALIBATT_BENCH_MASKS:-*}

# masks NAME T H W [OPTION...]: the profile of masks that make_masks.py makes.
masks() {
  "$python" "$here/make_masks.py" "$out/$1.masks" --grid "$2" "$3" "$4" "${@:5}"
  "$calibatt" profile import "$out/$1.masks" -o "$out/$1.calib.safetensors" >/dev/null
  rm "$out/$1.masks"
}
# synthetic NAME PRESET: the middle layer and step of the preset.
synthetic() {
  "$calibatt" profile synth --preset "$2" --layers 3 --steps 3 -o "$out/$1.calib.safetensors" >/dev/null
}

for profile in 480p-dense 480p-random50 480p-random25 480p-random10 480p-preset 480p-repetitive \
  720p-dense 720p-random50 720p-random25 720p-random10 720p-preset 720p-repetitive \
  480p-random25-1head 480p-random25-5heads 480p-random25-12heads \
  cogvideox-dense cogvideox-random25; do
  # shellcheck disable=SC2254  # a pattern it is
  case $profile in $only) ;; *) continue ;; esac
  size=${profile%%-*} kind=${profile#*-} heads=()
  case $size in
    480p) grid=(21 30 52) ;;
    720p) grid=(21 45 80) ;;
    cogvideox) grid=(13 30 45) heads=(--heads 48 --head-dim 64) ;;
  esac
  case $kind in *-*head*) heads=(--heads "$(grep -o '[0-9]*' <<<"${kind#*-}")") kind=${kind%-*} ;; esac
  if [ ! -e "$out/$profile.calib.safetensors" ]; then
    case $kind in
      dense) masks "$profile" "${grid[@]}" "${heads[@]}" ;;
      repetitive) masks "$profile" "${grid[@]}" --repetitive ;;
      random*) masks "$profile" "${grid[@]}" --keep "0.${kind#random}" "${heads[@]}" ;;
      preset) synthetic "$profile" "wan2.1-14b-$size" ;;
    esac
  fi
  for variant in "$@"; do
    # shellcheck disable=SC2086  # options are words
    "$calibatt" compile "$out/$profile.calib.safetensors" -o "$out/$profile-${variant%%=*}.calibatt" \
      ${variant#*=} >/dev/null 2>&1 || { echo "prepare.sh: $profile-${variant%%=*} does not compile" >&2; exit 1; }
  done
done
ls -l "$out"/*.calibatt

#!/usr/bin/env bash
# From dumps of Q and K to verified kernels: installs what is missing, builds,
# calibrates the sample, compiles it twice, verifies both packages, shows one
# generated kernel. Everything it makes is under out/quickstart.
set -euo pipefail
usage() {
  cat <<USAGE
Usage: examples/quickstart.sh

Installs what is missing (Debian 12, as root), builds CalibAtt into build/, and goes
with examples/sample from Q and K to a profile, two packages and one generated kernel,
all under out/quickstart. No GPU is needed; where there is one, it is used too.

  -h, --help    print this and exit

Exit codes: 0 done, 1 a step failed, 2 usage.
USAGE
}
case ${1:-} in
  "") ;;
  -h | --help) usage; exit 0 ;;
  *)
    echo "quickstart.sh: error: \"$1\" was not expected: it takes no arguments" >&2
    echo "Run examples/quickstart.sh --help for more." >&2
    exit 2
    ;;
esac
started=$SECONDS
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
out=out/quickstart
step() { printf '\n== %s\n' "$*"; }
# Prints a command as a user would type it, then runs it.
run() { printf '$ %s\n' "$*" >&2; "$@"; }

step "1/6 Installing what is missing"
.ci/install-deps
# shellcheck source=/dev/null
. .venv/calibatt.env

step "2/6 Building (build/, release)"
cmake --preset release >/dev/null
cmake --build --preset release --parallel "$(nproc)" --target calibatt-installed
export PATH="$root/build/bin:$PATH"
mkdir -p "$out"

step "3/6 Calibrating: Q and K of three prompts -> profile"
profile=$out/sample.calib.safetensors
run calibatt calibrate examples/sample/prompt*.safetensors -o "$profile" --json >"$out/calibrate.json"
run calibatt profile info "$profile"

step "4/6 Compiling: profile -> packages"
# The defaults: --form auto, --granularity step.
run calibatt compile "$profile" -o "$out/sample.calibatt"
# Every distinct schedule its own kernel, with no loop over key blocks, of up to 100 KB of code.
run calibatt compile "$profile" -o "$out/sample-full.calibatt" --form full --granularity head \
  --unroll-budget 100000
run calibatt inspect ls "$out/sample-full.calibatt"

step "5/6 Verifying both packages"
packages=("$out/sample.calibatt" "$out/sample-full.calibatt")
for package in "${packages[@]}"; do
  run calibatt verify "$package" --profile "$profile" --device host
done
gpu=
if command -v nvidia-smi >/dev/null; then gpu=$(nvidia-smi -L 2>/dev/null | head -n 1 || true); fi
case $gpu in
  GPU*)
    for package in "${packages[@]}"; do
      run calibatt verify "$package" --profile "$profile" --device cuda:0
    done
    ;;
  *) gpu= ;;
esac

step "6/6 One generated kernel: layer 0, head 1, step 2"
kernel=$out/layer0-head1-step2
run calibatt inspect show "$out/sample-full.calibatt" 0,1,2
run calibatt inspect show "$out/sample-full.calibatt" 0,1,2 --cuda | tee "$kernel.cu"
calibatt inspect show "$out/sample-full.calibatt" 0,1,2 --ptx >"$kernel.ptx"

step "Done in $((SECONDS - started)) s"
size() { du -h --apparent-size "$1" | cut -f 1; }
cat <<SUMMARY
What was made, under $root/$out:
  sample.calib.safetensors     $(size "$profile")  the profile: 2 layers x 2 heads x 4 steps from 3 prompts
  sample.calibatt              $(size "$out/sample.calibatt")  the package with the defaults (form auto, granularity step)
  sample-full.calibatt         $(size "$out/sample-full.calibatt")  one fully unrolled kernel a distinct schedule
  layer0-head1-step2.{cu,ptx}  $(size "$kernel.cu"), $(size "$kernel.ptx")  the kernel shown above
The commands are build/bin/calibatt and build/bin/calibatt-compile.

What ran where:
  Every schedule of both packages was decoded and compared with the profile.
  The attention of every kernel's schedule was computed on the CPU (device host)
  and compared with a float64 masked reference.
SUMMARY
if [ -n "$gpu" ]; then
  echo "  The CUDA kernels ran on ${gpu%% (UUID*}, with the same comparison."
else
  cat <<SUMMARY
  No GPU was found: the CUDA kernels were compiled, not run. On a machine with one:
    calibatt verify $out/sample.calibatt --profile $profile --device cuda:0
SUMMARY
fi

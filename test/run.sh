#!/usr/bin/env bash
# Installs what is missing, builds, and runs every test this machine can run.
# Arguments go to ctest: `test/run.sh -L unit`, `test/run.sh -R tree`.
set -euo pipefail
case ${1:-} in
  -h | --help)
    echo "usage: test/run.sh [CTEST-ARGUMENT...]   (-L unit|lit|nvrtc|tools|python|host|gpu|fuzz|torch, -R NAME, -V)"
    exit 0 ;;
esac
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
.ci/install-deps
# shellcheck source=/dev/null
. .venv/calibatt.env
jobs=$(nproc)
cmake --preset release
cmake --build --preset release --parallel "$jobs"
if command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q GPU; then
  echo "GPU tests: on $(nvidia-smi -L | head -n 1)"
else
  echo "GPU tests: skipped, no GPU here"
fi
# Last, so that its summary closes the output; reports are not tests.
exec ctest --preset release --parallel "$jobs" --no-tests=error "$@"

#!/usr/bin/env bash
# What compiling whole models costs: profiles of up to 80,000 sites are invented, compiled cold and cached,
# compared with their packages, and the results written as Markdown and JSON.
#
#   test/benchmark/compile_scale.sh BUILD DATA [RESULT] [--preset 480p|720p]... [--sites N]...
#
# Profiles and packages stay in DATA, and a profile that is there is used again. Without --preset both are
# measured, without --sites 1,000, 5,000, 20,000 and 80,000 (720p: 80,000). RESULT is a name without suffix
# (default: test/benchmark/results/compile-scale). No time is asserted; a package that differs from its
# profile, or from the one compiled from the cache, is an error.
set -euo pipefail
if [ $# -lt 2 ]; then
  sed -n '2,11s/^# \{0,1\}//p' "$0"
  exit 2
fi
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
exec "${CALIBATT_PYTHON:-python3}" "$here/compile_scale.py" "$@"

#!/usr/bin/env bash
# The scripts parse, explain themselves, and refuse what they do not know.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
fail() { echo "scripts_test: $*" >&2; exit 1; }
for script in .ci/install-deps .ci/run .ci/pre-commit test/run.sh examples/quickstart.sh; do
  [ -x "$root/$script" ] || fail "$script is not executable"
  bash -n "$root/$script" || fail "$script does not parse"
done
"$root/.ci/install-deps" --help | grep -q -- --torch || fail "install-deps --help does not name --torch"
"$root/test/run.sh" --help | grep -q usage || fail "test/run.sh --help prints no usage"
code=0
message=$("$root/.ci/install-deps" --no-such-option 2>&1 >/dev/null) || code=$?
[ $code -eq 2 ] || fail "an unknown option exits $code, not 2"
case $message in *--no-such-option*) ;; *) fail "the message does not name the option: $message" ;; esac

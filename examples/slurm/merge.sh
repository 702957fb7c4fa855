#!/usr/bin/env bash
# Runs when every shard is there: makes the package of them, and removes them.
#
#   merge.sh PACKAGE FOLDER SHARDS
set -euo pipefail
package=$1 folder=$2 shards=()
for ((i = 1; i <= $3; ++i)); do shards+=("$folder/$i.calibatt"); done
"${CALIBATT:-calibatt}" merge "${shards[@]}" -o "$package"
rm "${shards[@]}"

#!/usr/bin/env bash
# Compiles a profile on a Slurm cluster: an array job with a task a shard, and a job that depends on
# it and merges the shards. The package has the bytes that one machine alone would have made.
#
#   examples/slurm/submit.sh PROFILE PACKAGE SHARDS [COMPILE-OPTION...]
#
# Prints the numbers of the two jobs. Shards and logs are in PACKAGE.shards, which has to be on a file
# system that all nodes share; so has the cache (--cache DIR, or $CALIBATT_CACHE), if there is to be
# one. Partition, account and time are sbatch's own variables: SBATCH_PARTITION, SBATCH_ACCOUNT,
# SBATCH_TIMELIMIT. $CALIBATT is the program, where it is not on PATH.
set -euo pipefail
if [ $# -lt 3 ]; then
  sed -n '2,11s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
profile=$(realpath "$1") package=$(realpath -m "$2") shards=$3
shift 3
work=$package.shards
mkdir -p "$work"

# A node that fails requeues its task by itself (--requeue); a compile that fails, shard.sh does.
array=$(sbatch --parsable --job-name=calibatt-shard --array="1-$shards" --cpus-per-task="${CPUS:-1}" \
  --requeue --open-mode=append --output="$work/%a.log" \
  "$here/shard.sh" "$profile" "$work" "$@")
merge=$(sbatch --parsable --job-name=calibatt-merge --dependency="afterok:$array" \
  --kill-on-invalid-dep=yes --output="$work/merge.log" "$here/merge.sh" "$package" "$work" "$shards")
echo "$array $merge"

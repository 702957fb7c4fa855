#!/usr/bin/env bash
# A task of the array: one shard of the package. Where it fails it is queued again, twice at most: a
# node may have had no room or no NVRTC, and what was compiled is in the cache.
#
#   shard.sh PROFILE FOLDER [COMPILE-OPTION...]
set -euo pipefail
profile=$1 folder=$2
shift 2
shard=$SLURM_ARRAY_TASK_ID tries=${SLURM_RESTART_COUNT:-0}

compile() {
  # To see what happens then: this task fails the first time.
  if [ "$shard-$tries" = "${FAIL_SHARD:-none}-0" ]; then
    echo "shard $shard: failing as FAIL_SHARD says"
    return 1
  fi
  "${CALIBATT:-calibatt}" compile "$profile" -o "$folder/$shard.calibatt" \
    --shard "$shard/$SLURM_ARRAY_TASK_COUNT" -j "${SLURM_CPUS_PER_TASK:-1}" "$@"
}

if ! compile "$@"; then
  if [ "$tries" -lt 2 ]; then
    echo "shard $shard: failed, queued again"
    scontrol requeue "$SLURM_JOB_ID" # and ends this task
    sleep 60
  fi
  exit 1
fi

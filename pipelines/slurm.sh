#!/usr/bin/env bash
# slurm.sh: extracts in shards on a cluster, a task of a job array each, from the repository's root:
#
#   sbatch --array=0-15 --cpus-per-task=8 pipelines/slurm.sh OUT --model M --corpus C...
#
# makes OUT/0 .. OUT/15. Then: build/train $(printf -- '--store %s ' OUT/*) --sweep S.yaml --out RUN
# Options are those of extract; shards with a fitted codec (klt, q8) need --pilot FILE. A task that ran out of time or was killed goes on when it is submitted again.
#SBATCH --job-name=extract
#SBATCH --signal=B:TERM@60
set -euo pipefail
out=$1
shift
mkdir -p "$out"
exec "${BUILD:-build}/extract" "$@" --out "$out/$SLURM_ARRAY_TASK_ID" --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT"

#!/usr/bin/env bash
# slurm.sh: extracts in shards on a cluster: each shard is a task of a job array.
#
#   SHARDS=16 sbatch --array=0-15 --cpus-per-task=8 pipelines/slurm.sh OUT --model M --corpus C...
#
# makes OUT/0 .. OUT/15. SHARDS is the number of shards, even where only some tasks are submitted: SHARDS=16 and --array=3,7 make
# shards 3 and 7 of 16, or go on with them. Options are those of extract. A task uses as many threads as Slurm gives it CPUs. When a
# task runs out of time, or Slurm tells it to stop (TERM), it keeps what it has and is queued again.
#
# Shards with a codec that is fitted (klt) need its parameters. Write them once, before:
#
#   build/extract --model M --corpus C... --codec klt:4 --out OUT/pilot --dry-run --pilot-out PILOT
#
# Then give all tasks --codec klt:4 --pilot PILOT. To train when all tasks of the array's job, JOB, are done:
#
#   sbatch --dependency=afterok:JOB --cpus-per-task=8 --wrap 'build/train $(printf -- "--store %s " OUT/[0-9]*) --sweep S.yaml --out RUN'
#
# The programs are taken from beside this script, or from the folder that BUILD names.
#SBATCH --job-name=extract
#SBATCH --signal=B:TERM@60
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail
say() { echo "slurm.sh: $*" >&2; }
usage() {
    sed -n '2,/^#SBATCH/{/^#SBATCH/d;s/^# \{0,1\}//p}' "$0" | sed "s|pipelines/slurm\.sh|$0|"
    exit "$1"
}
wrong() {
    say "$1; without arguments it says how it is used"
    exit 2
}
# field NAME: what Slurm says of this task; nothing where it says nothing
field() { scontrol show job -o "$name" 2>/dev/null | sed -nE "s/.* $1=([^ ]*) .*/\1/p" || true; }

case ${1:-} in
'') usage 2 >&2 ;;
-h | --help) usage 0 ;;
esac
# Not SLURM_JOB_ID: of an array's last task it is the number of the whole array.
name=${SLURM_ARRAY_JOB_ID:-}_${SLURM_ARRAY_TASK_ID:-}
task=${SLURM_ARRAY_TASK_ID:-} shards=${SHARDS:-} out=$1
shift
[ -n "$task" ] || wrong "this is not a task of a job array: submit it with sbatch --array"
[ -n "$shards" ] || wrong "SHARDS=N, the number of shards, is wanted"
[[ $shards =~ ^[1-9][0-9]{0,5}$ ]] || wrong "SHARDS=$shards is not a number of shards"
[[ $task =~ ^[0-9]+$ ]] && [ "$task" -lt "$shards" ] || wrong "task $task: the tasks of SHARDS=$shards are 0 .. $((shards - 1))"

# Slurm runs a copy of this script; programs.sh is beside the one that was submitted.
script=$(field Command)
[ -f "$script" ] || script=$0
script=$(readlink -f "$script")
if [ ! -f "$(dirname "$script")/programs.sh" ]; then wrong "programs.sh is not beside $script"; fi
# shellcheck source=pipelines/programs.sh
. "$(dirname "$script")/programs.sh"
extract=$(program extract)

# The number of shards of a store that exists already; nothing when there is no store.
shards_there() {
    local store cache about
    for store in "$out"/[0-9]*; do
        [ -e "$store/data.mdb" ] || continue
        cache=$(program cache)
        about=$("$cache" info "$store" 2>/dev/null) || continue
        grep -q '^shard ' <<<"$about" || { echo 1 && return; }
        sed -nE 's/^shard .* of ([0-9]+) .*/\1/p' <<<"$about"
        return
    done
}

# The first task writes down how many shards there are; a name appears whole or not at all.
mkdir -p "$out"
if [ ! -e "$out/.shards" ]; then
    there=$(shards_there)
    mark=$(mktemp "$out/.shards.XXXXXX")
    echo "${there:-$shards}" >"$mark"
    ln "$mark" "$out/.shards" 2>/dev/null || true
    rm -f "$mark"
fi
begun=$(cat "$out/.shards")
[ "$begun" = "$shards" ] || wrong "$out was begun with SHARDS=$begun: take that, or another folder"

child='' stopped=''
stop() {
    stopped=1
    [ -z "$child" ] || kill -TERM "$child" 2>/dev/null || true
}
trap stop TERM
trap '[ -z "$child" ] || kill -TERM "$child" || true; exit 130' INT # what is started with & does not hear it
threads=${SLURM_CPUS_PER_TASK:-${SLURM_CPUS_ON_NODE:-}}
"$extract" ${threads:+--threads "$threads"} "$@" --out "$out/$task" --shard "$task/$shards" &
child=$!
[ -z "$stopped" ] || stop
status=0
wait "$child" || status=$?
while kill -0 "$child" 2>/dev/null; do # a signal ended the wait, not the program
    status=0
    wait "$child" || status=$?
done

# A job that was cancelled must not come back: it is queued again only when it still runs.
if [ -n "$stopped" ] && [ "$status" != 0 ] && [ "$(field JobState)" = RUNNING ]; then
    say "task $task was told to stop; it is queued again and goes on from there"
    scontrol requeue "$name" && exit 0
fi
exit "$status"

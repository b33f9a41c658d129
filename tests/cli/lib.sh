# lib.sh: what the scripts of tests/cli share. A script sources it, defines functions that return 0
# when all is well, and gives each to check:
#
#     . "$(dirname "$0")/lib.sh"
#     wrong_usage() { run 2 extract --nonsense && says err unrecognized; }
#     check wrong_usage
#     finish
#
# It changes to the repository's root. $work is an empty folder, $model the demo model or empty.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
build=${BUILD:-build}
model=${OFFRAMP_TEST_MODEL:-}
unset MAKEFLAGS MFLAGS MAKELEVEL # a make that a test runs is not part of the one that runs the tests
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0 skipped=0

# run STATUS PROGRAM ARGUMENT...: its output goes to $work/out and $work/err
run() {
    local expected=$1 program=$2 status
    shift 2
    "$build/$program" "$@" >"$work/out" 2>"$work/err" </dev/null
    status=$?
    [ "$status" = "$expected" ] && return 0
    echo "    $program $* ended with $status, not $expected: $(head -c 400 "$work/err")"
    return 1
}

# Whether the programs are under AddressSanitizer, whose shadow memory is not the program's.
sanitized() { grep -qa __asan_init "$build/extract"; }

# says FILE TEXT: the last command's out or err has it
says() {
    grep -qF -- "$2" "$work/$1" && return 0
    echo "    \"$2\" is not in the $1 of the last command: $(head -c 400 "$work/$1")"
    return 1
}

# without_times METRICS: the lines of a metrics.jsonl, whose end is the cost
without_times() { sed 's/, "tokens_per_second.*//' "$1"; }

# same_trials RUN OTHER: heads and metrics of the trials that RUN has; no checkpoint is left in OTHER
same_trials() {
    local trial id good=0
    for trial in "$work/$1"/trials/*; do
        id=$(basename "$trial")
        cmp "$trial/head.safetensors" "$work/$2/trials/$id/head.safetensors" &&
            cmp <(without_times "$trial/metrics.jsonl") <(without_times "$work/$2/trials/$id/metrics.jsonl") || good=1
    done
    [ -z "$(find "$work/$2" -name last.ckpt)" ] || { echo "    $2 has checkpoints still"; good=1; }
    return $good
}

check() {
    if "$1"; then
        passed=$((passed + 1))
        echo "    ok $1"
    else
        failed=$((failed + 1))
        echo "    FAILED $1"
    fi
}

check_with_model() {
    if [ -n "$model" ]; then
        check "$1"
    else
        skipped=$((skipped + 1))
        echo "    skipped: $1: no demo model"
    fi
}

# For a test that mounts a small file system.
check_on_tmpfs() {
    if mkdir -p "$work/try" && mount -t tmpfs -o size=1m none "$work/try" 2>/dev/null; then
        umount "$work/try"
        check "$1"
    else
        skipped=$((skipped + 1))
        echo "    skipped: $1: a tmpfs cannot be mounted here"
    fi
}

# A Slurm that takes jobs and starts none: their tasks are run by hand (pipelines/slurm.sh --task).
take_jobs() {
    mkdir -p "$work/slurm_that_takes"
    printf '#!/bin/sh\necho 1\n' >"$work/slurm_that_takes/sbatch"
    printf '#!/bin/sh\n' >"$work/slurm_that_takes/squeue"
    chmod +x "$work"/slurm_that_takes/*
    export PATH="$work/slurm_that_takes:$PATH"
}

finish() {
    echo "$passed passed, $failed failed, $skipped skipped"
    [ "$failed" = 0 ]
    exit
}

#!/usr/bin/env bash
# tune.sh: from a model and a text to an early-exit model: extract, sweep, report, policy.
#
#   pipelines/tune.sh [OPTIONS] MODEL CORPUS OUT
#
#   MODEL   a GGUF file, or a folder with config.json and safetensors
#   CORPUS  a text file, a folder of text files, *.jsonl, or a token file
#   OUT     gets store/ (hidden states), run/ (trials, leaderboard.tsv, report.html, policy/)
#
#   --taps LIST           where to read, such as 6,12,12.mid,final (default: extract's)
#   --sweep FILE          the trials (default: a ridge-initialised, distilled affine head at every tap)
#   --held-out SHARE      share of CORPUS that heads are evaluated on (default: extract's)
#   --held-out-corpus PATH  another file or folder that they are evaluated on
#   --tokens N            training tokens at most
#   --held-out-tokens N   held-out tokens at most
#   --seq-len T           tokens per sequence
#   --codec NAME          how states are stored
#   --device D, --math M, --threads N
#
# It stops at the first failure. The same command again goes on from there.
set -euo pipefail
usage() {
    sed -n '2,22s/^# \{0,1\}//p' "$0" | sed "s|pipelines/tune\.sh|$0|"
    exit "$1"
}
wrong() {
    echo "tune: $1; see $0 --help" >&2
    exit 2
}
. "$(dirname "$(readlink -f "$0")")/programs.sh"
extract=() common=() sweep='' positional=()
while [ $# -gt 0 ]; do
    case $1 in
    --taps | --held-out | --held-out-corpus | --tokens | --held-out-tokens | --seq-len | --codec)
        [ $# -ge 2 ] || wrong "$1 wants a value"
        extract+=("$1" "$2")
        shift
        ;;
    --device | --math | --threads)
        [ $# -ge 2 ] || wrong "$1 wants a value"
        common+=("$1" "$2")
        shift
        ;;
    --sweep)
        [ $# -ge 2 ] || wrong "$1 wants a value"
        sweep=$2
        shift
        ;;
    -h | --help) usage 0 ;;
    -*) wrong "unknown option $1" ;;
    *) positional+=("$1") ;;
    esac
    shift
done
[ ${#positional[@]} = 3 ] || wrong "MODEL, CORPUS and OUT are wanted"
model=${positional[0]} corpus=${positional[1]} out=${positional[2]}
extract_program=$(program extract)
cache_program=$(program cache)
train_program=$(program train)
mkdir -p "$out"

budget=()
timed() { # timed NAME COMMAND...: runs, and remembers the seconds
    local name=$1 started=$SECONDS
    shift
    echo "== $name" >&2
    "$@"
    budget+=("$(printf '%-10s %4d s' "$name" $((SECONDS - started)))")
}

timed extract "$extract_program" --model "$model" --corpus "$corpus" --out "$out/store" "${extract[@]}" "${common[@]}"
if [ -z "$sweep" ]; then
    sweep=$out/sweep.yaml
    {
        echo "# Made by pipelines/tune.sh: a ridge-initialised, distilled affine head at every tap."
        echo "trials:"
        "$cache_program" info --json "$out/store" | sed -nE 's/.*"name": "([0-9][0-9.mid]*)".*/\1/p' | while read -r tap; do
            echo "  - {tap: \"$tap\", head: affine, init: ridge, loss: distillation}"
        done
    } >"$sweep"
fi
timed train "$train_program" --store "$out/store" --sweep "$sweep" --out "$out/run" "${common[@]}"
echo "report: $out/run/report.html"
echo "policy: $out/run/policy"
printf 'time: %s\n' "${budget[@]}" >&2

#!/usr/bin/env bash
# sweep.sh: `make bench-sweep`: a sweep of 16 mixed trials at four taps beside what it replaces.
#
#   tests/bench/sweep.sh [ROUNDS [STEPS]]     medians of ROUNDS (3) rounds, in which all cases take turns; STEPS (4) steps each
#
#   sweep        the 16 trials in one run                     whole product and subset
#   single       the 16 trials in a run each                  likewise
#   model        one pass of the full model over the tokens of as many steps (extract)
#   pytorch      the 16 trials in PyTorch, one by one, from memory-mapped files (sweep_peer.py), where PYTHON has torch
#
# What a run takes at its beginning and end is left out: runs of 1 and of 1 + STEPS steps are made, and their difference counts.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=${BUILD:-build} rounds=${1:-3} steps=${2:-4} python=${PYTHON:-python3}
model=${OFFRAMP_TEST_MODEL:-$(pipelines/setup.sh model)} text=${TEXT:-$(pipelines/setup.sh corpus)}
sequences=4 length=512
work=$(mktemp -d "${TMPDIR:-/tmp}/sweep.XXXXXX")
trap 'rm -rf "$work"' EXIT
taps=(6 12 18 24)
seconds() { # seconds COMMAND...: what it takes by the clock
    local began=$EPOCHREALTIME
    "$@" >"$work/out" 2>&1 || { cat "$work/out" >&2 && exit 1; }
    awk -v a="$began" -v b="$EPOCHREALTIME" 'BEGIN { print b - a }'
}
keep() { echo "$2" >>"$work/$1.seconds"; }
median() { sort -g "$work/$1.seconds" | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }

# ---- the trials: TAP KIND LOSS ----
for tap in "${taps[@]}"; do
    echo "$tap affine distillation"
    echo "$tap affine cross-entropy"
    echo "$tap norm distillation"
    echo "$tap.mid mlp distillation"
done >"$work/trials"

sweep_file() { # sweep_file STEPS VOCABULARY < TRIALS
    echo "steps: $1"
    echo "sequences: $sequences"
    echo "evaluate: 0"
    echo "checkpoint: 1000"
    echo "trials:"
    while read -r tap kind loss; do
        echo "  - {tap: \"$tap\", head: $kind, init: copy, loss: $loss, vocabulary: $2}" | sed 's/affine, init: copy/affine, init: ridge/'
    done
}
one_run() { # one_run NAME STEPS VOCABULARY < TRIALS
    sweep_file "$2" "$3" >"$work/$1.yaml"
    rm -rf "${work:?}/$1"
    seconds "$build/train" --store "$work/store" --sweep "$work/$1.yaml" --out "$work/$1"
}
run_pair() { # run_pair VOCABULARY < TRIALS: the seconds of STEPS steps
    local trials few many
    trials=$(cat)
    few=$(one_run few 1 "$1" <<<"$trials")
    many=$(one_run many $((steps + 1)) "$1" <<<"$trials")
    awk -v a="$few" -v b="$many" 'BEGIN { print b - a }'
}
single_runs() { # single_runs VOCABULARY
    while read -r trial; do run_pair "$1" <<<"$trial"; done <"$work/trials" | awk '{ sum += $1 } END { print sum }'
}
extract_seconds() { # of as many tokens as STEPS steps have, less those of loading the model
    local few many
    few=$(seconds "$build/extract" --model "$model" --corpus "$text" --seq-len $length --taps 6 --codec raw --tokens $length \
        --held-out-tokens $length --out "$work/few.store")
    many=$(seconds "$build/extract" --model "$model" --corpus "$text" --seq-len $length --taps 6 --codec raw \
        --tokens $((length + steps * sequences * length)) --held-out-tokens $length --out "$work/many.store")
    rm -rf "$work/few.store" "$work/many.store"
    awk -v a="$few" -v b="$many" 'BEGIN { print b - a }'
}

"$build/extract" --model "$model" --corpus "$text" --seq-len $length --taps 6,6.mid,12,12.mid,18,18.mid,24,24.mid,final \
    --tokens $((sequences * length * (steps + 1))) --held-out-tokens $((2 * length)) --codec lossless --out "$work/store" >/dev/null 2>&1
peer=$("$python" -c 'import torch; print(torch.__version__, torch.get_num_threads())' 2>/dev/null) || peer=
if [ -n "$peer" ]; then
    for tap in "${taps[@]}" "${taps[@]/%/.mid}" final; do
        "$build/cache" export --format npy --tap "$tap" --out "$work/npy/$tap" "$work/store" >/dev/null 2>&1
    done
    "$build/cache" export --format npy --tensor output --out "$work/npy" "$work/store" >/dev/null 2>&1
fi
peer_seconds() {
    "$python" tests/bench/sweep_peer.py "$work/npy" "$steps" $sequences <"$work/trials" >"$work/peer"
    keep peer "$(awk '$1 != "shared" { sum += $4 } END { print sum }' "$work/peer")"
    keep peer-entropy "$(awk '$3 == "cross-entropy" { sum += $4 } END { print sum }' "$work/peer")"
    keep peer-distilled "$(awk '$3 == "distillation" { sum += $4 } END { print sum }' "$work/peer")"
    keep peer-shared "$(awk '$1 == "shared" { print $2 }' "$work/peer")"
}
for ((round = 1; round <= rounds; round++)); do
    echo "round $round of $rounds" >&2
    for vocabulary in all subset; do
        keep "sweep-$vocabulary" "$(run_pair $vocabulary <"$work/trials")"
        keep "entropy-$vocabulary" "$(grep cross-entropy "$work/trials" | run_pair $vocabulary)"
        keep "distilled-$vocabulary" "$(grep distillation "$work/trials" | run_pair $vocabulary)"
        keep "single-$vocabulary" "$(single_runs $vocabulary)"
    done
    keep model "$(extract_seconds)"
    [ -z "$peer" ] || peer_seconds
done

line() { # line TEXT CASE BASE: CASE beside BASE
    awk -v text="$1" -v a="$(median "$2")" -v b="$(median "$3")" 'BEGIN { printf "  %-58s %8.2f s  %6.2f times\n", text, a, b / a }'
}
echo "sweep: 16 trials at taps ${taps[*]}, $steps steps of $((sequences * length)) tokens, $(nproc) processors, medians of $rounds"
for vocabulary in all subset; do
    line "sweep, $vocabulary; beside its 16 single runs" "sweep-$vocabulary" "single-$vocabulary"
    line "sweep, $vocabulary; beside one pass of the full model" "sweep-$vocabulary" model
done
line "sweep, subset; beside the whole product" sweep-subset sweep-all
if [ -z "$peer" ]; then
    echo "  pytorch: $python has no torch; PYTHON=... names one that has"
    exit 0
fi
echo "  pytorch $peer threads, from memory-mapped files; the same trials beside it:"
for vocabulary in all subset; do
    line "sweep, $vocabulary; beside PyTorch" "sweep-$vocabulary" peer
    line "of it cross-entropy, $vocabulary" "entropy-$vocabulary" peer-entropy
    line "of it distillation, $vocabulary" "distilled-$vocabulary" peer-distilled
    line "distillation; PyTorch with one softmax for all trials" "distilled-$vocabulary" peer-shared
done

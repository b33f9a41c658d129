#!/usr/bin/env bash
# train.sh: kill -9 at random moments of a sweep; every time the same command goes on, and the heads end
# with the bytes of a run that nobody disturbed. Every other round is a sweep with halving and patience, of which
# some trials are live at a time, each time other ones.
#
#   tests/faults/train.sh [KILLS] [SEED]      OFFRAMP_KILLS or 20, from the clock
set -uo pipefail
cd "$(dirname "$0")/../.."
build=${BUILD:-build}
kills=${1:-${OFFRAMP_KILLS:-20}}
seed=${2:-$(($(date +%s) % 32768))}
RANDOM=$seed
echo "    seed $seed, $kills kills"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0

"$build/tests/bench/make_store" "$work/store" || exit 1
cat >"$work/sweep.yaml" <<'END'
steps: 1500
checkpoint: 40
evaluate: 300
trials:
  - {tap: 1, head: affine, init: ridge}
  - {tap: 2, head: norm, loss: cross-entropy}
  - {tap: 2.mid, head: mlp}
  - {tap: 3, head: affine, init: random, output: untied}
END
cat >"$work/halved.yaml" <<'END'
steps: 700
checkpoint: 40
evaluate: 50
halving: 3
patience: 3
grid:
  tap: [1, 3]
  head: [affine]
  init: [ridge, copy]
  rate: [1e-3, 1e-2]
trials:
  - {tap: 2.mid, head: mlp}
  - {tap: 1, head: norm, loss: cross-entropy, rate: 9, warmup: 0}
END
train() { # train SWEEP RUN ARGUMENT...: begins or goes on, beside this script
    local sweep=$1 folder=$2
    shift 2
    "$build/train" --store "$work/store" --out "$work/$folder" --sweep "$work/$sweep.yaml" "$@" >"$work/out" 2>"$work/err" </dev/null &
    pid=$!
}

declare -A span # milliseconds
for sweep in sweep halved; do
    started=$(date +%s%N)
    train $sweep whole.$sweep
    wait $pid || { cat "$work/err"; exit 1; }
    span[$sweep]=$((($(date +%s%N) - started) / 1000000))
done

round=0
killed=0
while [ $killed -lt "$kills" ] || [ $round -lt 2 ]; do
    round=$((round + 1))
    most=$((round < 2 ? kills / 2 : kills)) # after this round, so that both sweeps have their share
    folder=run$round
    sweep=sweep
    [ $((round % 2)) = 1 ] || sweep=halved
    whole=whole.$sweep
    for ((attempt = 0; attempt < 100; attempt++)); do
        train $sweep $folder --max-parallel $((1 + RANDOM % 8))
        # Anywhere in a run, more often near its beginning, where there is more to go wrong.
        wait_ms=$((RANDOM % (span[$sweep] / (1 + RANDOM % 4) + 1)))
        sleep $((wait_ms / 1000)).$(printf '%03d' $((wait_ms % 1000)))
        if [ $killed -lt "$most" ] && kill -9 $pid 2>/dev/null; then
            killed=$((killed + 1))
        fi
        wait $pid 2>/dev/null
        case $? in
        0) break ;;
        137) ;;
        *) cat "$work/err"; break ;;
        esac
    done
    good=1
    for trial in "$work/$whole"/trials/*; do
        id=$(basename "$trial")
        cmp "$trial/head.safetensors" "$work/$folder/trials/$id/head.safetensors" &&
            cmp <(sed 's/, "tokens_per_second.*//' "$trial/metrics.jsonl") \
                <(sed 's/, "tokens_per_second.*//' "$work/$folder/trials/$id/metrics.jsonl") || good=0
    done
    cmp "$work/$whole/leaderboard.tsv" "$work/$folder/leaderboard.tsv" || good=0
    cmp "$work/$whole/policy/policy.json" "$work/$folder/policy/policy.json" || good=0
    left=$(find "$work/$folder" -name '*.tmp*' -o -name last.ckpt)
    [ -z "$left" ] || { echo "$left"; good=0; }
    if [ $good = 1 ]; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
    echo "    round $round ($sweep): $killed kills so far"
done
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" = 0 ]

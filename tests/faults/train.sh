#!/usr/bin/env bash
# train.sh: kill -9 at random moments of a sweep; every time the same command goes on, and the heads end
# with the bytes of a run that nobody disturbed.
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
train() { # train RUN: begins or goes on, beside this script
    "$build/train" --store "$work/store" --out "$work/$1" --sweep "$work/sweep.yaml" >"$work/out" 2>"$work/err" </dev/null &
    pid=$!
}

started=$(date +%s%N)
train whole
wait $pid || { cat "$work/err"; exit 1; }
span=$((($(date +%s%N) - started) / 1000000)) # milliseconds

round=0
killed=0
while [ $killed -lt "$kills" ]; do
    round=$((round + 1))
    folder=run$round
    for ((attempt = 0; attempt < 100; attempt++)); do
        train $folder
        # Anywhere in a run, more often near its beginning, where there is more to go wrong.
        wait_ms=$((RANDOM % (span / (1 + RANDOM % 4) + 1)))
        sleep $((wait_ms / 1000)).$(printf '%03d' $((wait_ms % 1000)))
        if [ $killed -lt "$kills" ] && kill -9 $pid 2>/dev/null; then
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
    for trial in "$work"/whole/trials/*; do
        id=$(basename "$trial")
        cmp "$trial/head.safetensors" "$work/$folder/trials/$id/head.safetensors" &&
            cmp <(sed 's/, "tokens_per_second.*//' "$trial/metrics.jsonl") \
                <(sed 's/, "tokens_per_second.*//' "$work/$folder/trials/$id/metrics.jsonl") || good=0
    done
    cmp "$work/whole/leaderboard.tsv" "$work/$folder/leaderboard.tsv" || good=0
    cmp "$work/whole/policy/policy.json" "$work/$folder/policy/policy.json" || good=0
    left=$(find "$work/$folder" -name '*.tmp*' -o -name last.ckpt)
    [ -z "$left" ] || { echo "$left"; good=0; }
    if [ $good = 1 ]; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
    echo "    round $round: $killed kills so far"
done
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" = 0 ]

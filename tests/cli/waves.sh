#!/usr/bin/env bash
# waves.sh: trials that wait their turn, stop at a rung or run out of patience: the same bytes however many are live
# at a time, and wherever the run was stopped; what may change between two commands, and what may not.
. "$(dirname "$0")/lib.sh"
make_store=$build/tests/bench/make_store

store=$work/store
"$make_store" "$store" || exit 1
# All ways to end: at the last step, at either rung, without patience, and by a NaN (of the broken store).
cat >"$work/halved.yaml" <<'END'
seed: 4
steps: 18
evaluate: 4
checkpoint: 5
halving: 3
patience: 2
grid:
  tap: [1, 3]
  head: [affine]
  init: [ridge, copy, random]
  rate: [1e-3, 3e-2]
trials:
  - {tap: 2.mid, head: mlp}
  - {tap: 2, head: norm, loss: cross-entropy, rate: 9, warmup: 0}
END
sed '/halving\|patience/d' "$work/halved.yaml" >"$work/plain.yaml"

train_sweep() { # train_sweep STATUS SWEEP RUN ARGUMENT...
    local status=$1 sweep=$2 run=$3
    shift 3
    run "$status" train --store "$store" --sweep "$work/$sweep.yaml" --out "$work/$run" "$@"
}

# same_run RUN OTHER: heads, metrics and results; no checkpoint is left
same_run() {
    local good=0
    same_trials "$1" "$2" || good=1
    cmp "$work/$1/leaderboard.tsv" "$work/$2/leaderboard.tsv" && cmp "$work/$1/policy/policy.json" "$work/$2/policy/policy.json" || good=1
    return $good
}

count_of() { # count_of RUN STATUS: trials of it in the leaderboard
    cut -f10 "$work/$1/leaderboard.tsv" | grep -cx "$2"
}

sweep_in_waves() {
    train_sweep 0 plain plain || return 1
    for n in 1 3 13; do
        train_sweep 0 plain "plain$n" --max-parallel $n && says err "14 trials, $n of them at a time" && same_run plain "plain$n" || return 1
    done
}

halving_in_waves() {
    train_sweep 0 halved halved && says err "14 trials to step 2 of 18" &&
        says err "1-affine-random-distillation-0.001 stops: halving: after step 2 its KL is" &&
        says err " of 18: its last 2 evaluations brought no lower KL (patience)" && says out "  ended early, after step " &&
        says err "number 6 of the 6 trials at its tap; the best 2 go on" && says out "halving: after step" || return 1
    # Of six at a tap two come to step 6, and one of them to the end; one is worse than its first values.
    [ "$(count_of halved done) $(count_of halved stopped)" = "4 10" ] || { cat "$work/halved/leaderboard.tsv"; return 1; }
    grep -q '"step": 4, .*"whole": true, "of_step": 0' "$work/halved/trials/2-norm-copy-cross-entropy-9-warmup0/metrics.jsonl" || return 1
    for n in 1 2 5; do
        train_sweep 0 halved "halved$n" --max-parallel $n && same_run halved "halved$n" || return 1
    done
    train_sweep 0 halved halved && says err "is finished"
}

# So much memory that it holds some of the trials; and what does not hold one.
memory_bounds() {
    local one
    train_sweep 2 halved none --memory 1K && says err "--memory: 1.02 kB do not hold a single trial, which takes" || return 1
    one=$(sed -nE 's/.*which takes ([0-9]+(\.[0-9]+)?) kB:.*/\1/p' "$work/err")
    [ -n "$one" ] && [ ! -e "$work/none/trials" ] || return 1
    train_sweep 0 halved memory --memory "$(awk -v one="$one" 'BEGIN { printf "%d", one * 1000 * 1.4 }')" &&
        grep -qE "14 trials, ([2-9]|1[0-3]) of them at a time" "$work/err" && same_run halved memory
}

wrong_bounds() {
    run 2 train --store s --out r --max-parallel 0 --tap 2 --head norm && says err "--max-parallel" &&
        run 2 train --store s --out r --memory much --tap 2 --head norm && says err "--memory" &&
        run 2 train --store s --out r --halving 1 --tap 2 --head norm && says err "--halving: 1 would stop no trial"
}

# stop_with SIGNAL RUN AFTER ARGUMENT...: sends it when so many lines of metrics are there
stop_with() {
    local signal=$1 run=$2 after=$3
    shift 3
    env --default-signal=INT "$build/train" --store "$store" --sweep "$work/halved.yaml" --out "$work/$run" "$@" >"$work/out" 2>"$work/err" </dev/null &
    pid=$!
    while kill -0 $pid 2>/dev/null && [ "$(cat "$work/$run"/trials/*/metrics.jsonl 2>/dev/null | wc -l)" -lt "$after" ]; do :; done
    kill "-$signal" $pid 2>/dev/null
    { wait $pid; } 2>/dev/null
    status=$?
}

# The bounds are not the run's: each command may have others.
stopped_in_waves() {
    local after n=1
    for after in 3 20 40 60 80 95; do
        n=$((n % 4 + 1))
        stop_with INT stopped $after --max-parallel $n
        [ $status = 0 ] && break
        [ $status = 1 ] && says err "the same command" || return 1
        stop_with KILL stopped $((after + 7)) --max-parallel $n
    done
    train_sweep 0 halved stopped --max-parallel 3 && same_run halved stopped
}

other_settings_are_refused() {
    sed 's/halving: 3/halving: 2/' "$work/halved.yaml" >"$work/two.yaml"
    sed 's/patience: 2/patience: 3/' "$work/halved.yaml" >"$work/three.yaml"
    sed 's/evaluate: 4/evaluate: 5/' "$work/halved.yaml" >"$work/five.yaml" # patience counts evaluations
    train_sweep 2 two halved && says err "halving 3, not 2" && train_sweep 2 three halved && says err "patience 2, not 3" &&
        train_sweep 2 plain halved && says err "halving 3, not 0" &&
        train_sweep 2 five halved && says err "evaluate 4, not 5"
}

# A finished run gets more trials, and fewer: what was trained stays as it is.
trials_come_and_go() {
    local before after
    cp -r "$work/halved" "$work/grown"
    { cat "$work/halved.yaml"; printf '  - {tap: 3, head: affine, init: ridge, rate: 1e-2}\n  - {tap: 3, head: norm, init: random}\n'; } >"$work/grown.yaml"
    before=$(cd "$work/grown" && find trials -type f -exec stat -c '%n %y' {} + | sort)
    train_sweep 0 grown grown && says err "2 trials to step 2 of 18" || return 1
    after=$(cd "$work/grown" && find trials -type f -exec stat -c '%n %y' {} + | grep -v "ridge-distillation-0.01/\|3-norm" | sort)
    [ "$before" = "$after" ] || { echo "    a trial that had ended was written"; diff <(echo "$before") <(echo "$after"); return 1; }
    [ "$(tail -n +2 "$work/grown/leaderboard.tsv" | wc -l)" = 16 ] &&
        grep -q 'number [0-9] of the 8 trials at its tap; the best 3 go on' "$work/grown/trials/3-norm-random-distillation-0.001/metrics.jsonl" || return 1
    # The sweep of before: two folders more are there, and nobody minds.
    train_sweep 0 halved grown && [ -d "$work/grown/trials/3-norm-random-distillation-0.001" ] &&
        cmp "$work/halved/leaderboard.tsv" "$work/grown/leaderboard.tsv" || return 1
    train_sweep 0 grown grown && [ "$(tail -n +2 "$work/grown/leaderboard.tsv" | wc -l)" = 16 ] && ! says err "to step" >/dev/null
}

# What is deleted of a trial that has stopped is made again.
stopped_trial_is_made_again() {
    cp -r "$work/halved" "$work/again"
    rm "$work/again/trials/1-affine-copy-distillation-0.001/head.safetensors" "$work/again/trials/3-affine-random-distillation-0.03/metrics.jsonl"
    train_sweep 0 halved again && says err "1-affine-copy-distillation-0.001 has no head.safetensors any more" && same_run halved again
}

# A trial that fails counts at its tap, and the others are what they would be.
failure_in_waves() {
    "$make_store" "$work/broken" broken=2.mid || return 1
    store=$work/broken train_sweep 0 halved nan --max-parallel 4 && [ "$(count_of nan failed)" = 1 ] || return 1
    # It keeps no head, so it has no numbers: a KL of 0 would be the best.
    grep -q "	failed	[0-9]*						[0-9.]*	[0-9.]*		$" "$work/nan/leaderboard.tsv" || { grep failed "$work/nan/leaderboard.tsv"; return 1; }
    store=$work/broken train_sweep 0 halved nan --json && [ "$(grep -c '"kl"' "$work/out")" = 13 ] || return 1
    rm -r "$work/nan/trials/2.mid-mlp-copy-distillation-0.001"
    for trial in "$work/nan"/trials/*; do
        cmp "$trial/head.safetensors" "$work/halved/trials/$(basename "$trial")/head.safetensors" || return 1
    done
}

check wrong_bounds
check sweep_in_waves
check halving_in_waves
check memory_bounds
check stopped_in_waves
check other_settings_are_refused
check trials_come_and_go
check stopped_trial_is_made_again
check failure_in_waves
finish

#!/usr/bin/env bash
# parts.sh: a sweep that several processes train in one folder (train --part I/N), and what --collect makes of it:
# the same bytes as one process; whatever is killed, begun twice, or begun otherwise.
. "$(dirname "$0")/lib.sh"
store=$work/store
"$build/tests/bench/make_store" "$store" || exit 1
cat >"$work/five.yaml" <<'END'
seed: 4
passes: 2
evaluate: 7
grid:
  tap: [1, 3]
  head: [affine]
  init: [ridge]
  loss: [distillation, cross-entropy]
trials:
  - {tap: 2.mid, head: mlp}
END
sweep=$work/five.yaml

# part STATUS RUN ARGUMENT...: train on the sweep
part() {
    local expected=$1 run=$2
    shift 2
    run "$expected" train --store "$store" --sweep "$sweep" --out "$work/$run" --threads 1 "$@"
}
# at_once RUN I/N...: those parts, as processes at the same time
at_once() {
    local run=$1 share pid pids=() result=0
    shift
    for share in "$@"; do
        "$build/train" --store "$store" --sweep "$sweep" --out "$work/$run" --threads 1 --part "$share" >"$work/log.${share%/*}" 2>&1 </dev/null &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do wait "$pid" || result=1; done
    [ $result = 0 ] || tail -n 3 "$work"/log.*
    return $result
}
# same_run RUN: as the one that was not shared, costs aside; and nothing is left of the parts
same_run() {
    local trial
    for trial in "$work"/whole/trials/*; do
        trial=$(basename "$trial")
        cmp "$work/whole/trials/$trial/head.safetensors" "$work/$1/trials/$trial/head.safetensors" &&
            cmp "$work/whole/trials/$trial/config.json" "$work/$1/trials/$trial/config.json" || return 1
    done
    cmp "$work/whole/leaderboard.tsv" "$work/$1/leaderboard.tsv" && cmp "$work/whole/sweep.yaml" "$work/$1/sweep.yaml" &&
        diff -r "$work/whole/policy" "$work/$1/policy" && diff <(ls -A "$work/whole") <(ls -A "$work/$1") &&
        diff <(facts whole) <(facts "$1") && [ -z "$(find "$work/$1" -name '*.ckpt' -o -name '*tmp*')" ]
}
facts() { grep -v 'seconds\|memory' "$work/$1/run.json" | tr -d ,; }

wrong_usage() {
    part 2 r --part 0 && says err "--part: \"0\" is not I/N" && part 2 r --part 2/2 && says err "--part" &&
        part 2 r --part -1/2 && part 2 r --part 0/0 && part 2 r --part 0/2x && part 2 r --part 0/2 --collect && says err "give one of them" &&
        part 2 r --part 0/2 --agreement 0.9 && says err "belong to --collect" && part 2 r --part 0/2 --json && says err "--json" &&
        part 1 r --collect && says err "holds no run whose parts" && [ ! -e "$work/r" ] || return 1
    mkdir "$work/taken" && : >"$work/taken/thesis.txt"
    part 1 taken --part 0/2 && says err "holds other files"
}

one_process() { part 0 whole; }

# For any number of parts, one after another or at once, also more than there are trials.
same_bytes_in_parts() {
    at_once one 0/1 && part 0 one --collect && same_run one || return 1
    part 0 two --part 1/2 && says err "part 1 of 2 has ended: 2 trials" && [ ! -s "$work/out" ] &&
        part 0 two --part 0/2 && part 0 two --collect && says out "predicted speed-up" && same_run two || return 1
    at_once three 0/3 1/3 2/3 && part 0 three --collect && same_run three || return 1
    at_once seven 0/7 1/7 2/7 3/7 4/7 5/7 6/7 && part 0 seven --collect && same_run seven &&
        grep -q "part 6 of 7 has no trials" "$work/log.6"
}

# A run that was collected is one like any other.
collected_is_whole() {
    cp -r "$work/two" "$work/done"
    part 0 done && says err "nothing is left to do" && part 0 done --collect && says err "nothing is left to do" &&
        part 0 done --part 0/2 && part 0 done --part 0/9 && says err "nothing is left to do" && same_run done &&
        part 0 done --agreement 0.9 && says err "its policy is made again" || return 1
    sed '/mlp/a\  - {tap: 2, head: norm}' "$sweep" >"$work/six.yaml"
    sweep=$work/six.yaml
    part 2 done --part 0/2 && says err "is given more without --part" && part 0 done && says out "2-norm"
    local status=$?
    sweep=$work/five.yaml
    return $status
}

# What is missing is named, and nothing is made of it.
not_all_there() {
    part 0 lacks --part 0/3 && part 1 lacks --collect && says err "part 1 of 3 has not begun; 2 of its 2 trials are missing" &&
        says err "1-affine-ridge-cross-entropy-0.001 has not begun" && says err "2 of 3 parts have not ended" &&
        says err "Give --part 1/3" && [ ! -e "$work/lacks/leaderboard.tsv" ] && [ ! -e "$work/lacks/policy" ] || return 1
    at_once lacks 1/3 2/3 && rm "$work/lacks/trials/2.mid-mlp-copy-distillation-0.001/head.safetensors" &&
        part 1 lacks --collect && says err "part 1 of 3 was stopped; 1 of its 2 trials is missing" &&
        part 0 lacks --part 1/3 && part 0 lacks --collect && same_run lacks
}

# Whoever is wrong about the folder is told so.
begun_otherwise() {
    part 0 other --part 0/2 || return 1
    part 2 other --part 0/3 && says err "is trained in 2 parts, not 3. Give --part I/2" && part 2 other --part 2/3 && says err "Give --part I/2" &&
        part 2 other && says err "is trained in 2 parts. Give --part I/2" || return 1
    sed 's/seed: 4/seed: 5/' "$sweep" >"$work/seed.yaml"
    run 2 train --store "$store" --sweep "$work/seed.yaml" --out "$work/other" --part 1/2 && says err "begun with seed 4, not 5" || return 1
    sed 's/passes: 2/passes: 3/' "$sweep" >"$work/steps.yaml"
    run 2 train --store "$store" --sweep "$work/steps.yaml" --out "$work/other" --part 1/2 && says err "begun with steps 20, not 30" || return 1
    sed 's/evaluate: 7/evaluate: 9/' "$sweep" >"$work/evaluate.yaml"
    run 2 train --store "$store" --sweep "$work/evaluate.yaml" --out "$work/other" --part 1/2 &&
        says err "differs from line 3 on. Give --sweep $work/other/sweep.yaml" || return 1
    run 2 train --store "$store" --sweep "$work/evaluate.yaml" --out "$work/other" --collect && says err "differs from line 3 on" || return 1
    run 0 train --store "$store" --sweep "$work/other/sweep.yaml" --out "$work/other" --part 1/2 && part 0 other --collect && same_run other || return 1
    perl -0pi -e 's/,\s*"result": \{.*?\}//s' "$work/lacks/run.json" # as of one process that was killed
    part 2 lacks --part 0/2 && says err "is not trained in parts: the same command without --part" &&
        part 2 lacks --collect && says err "without --collect"
}

for name in wrong_usage one_process same_bytes_in_parts collected_is_whole not_all_there begun_otherwise; do check $name; done
finish

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
    part 0 lacks --part 0/3 && [ -z "$(find "$work/lacks" -name last.ckpt)" ] && part 1 lacks --collect && says err "part 1 of 3 has not begun; 2 of its 2 trials are missing" &&
        says err "1-affine-ridge-cross-entropy-0.001 has not begun" && says err "2 of 3 parts have not ended" &&
        says err "Give --part 1/3" && [ ! -e "$work/lacks/leaderboard.tsv" ] && [ ! -e "$work/lacks/policy" ] || return 1
    at_once lacks 1/3 2/3 && rm "$work/lacks/trials/2.mid-mlp-copy-distillation-0.001/head.safetensors" &&
        part 1 lacks --collect && says err "part 1 of 3 was stopped; 1 of its 2 trials is missing" &&
        part 0 lacks --part 1/3 || return 1
    # A part that has not said that it has ended may still have something to write.
    sed -i 's/"ended": true/"ended": false/' "$work/lacks/parts/2-of-3.json" && part 1 lacks --collect && says err "part 2 of 3 was stopped" &&
        part 0 lacks --part 2/3 && part 0 lacks --collect && same_run lacks
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

# killed_often MILLISECONDS RUN ARGUMENT...: again and again, each time killed a little later, until it ends
killed_often() {
    local delay=$1 run=$2 kills=0
    shift 2
    : >"$work/err"
    while ! (timeout -s KILL "$((delay / 1000)).$(printf %03d $((delay % 1000)))" "$build/train" --store "$store" --sweep "$sweep" --out "$work/$run" --threads 1 "$@"; exit) \
        >"$work/out" 2>>"$work/err" </dev/null; do
        kills=$((kills + 1)) delay=$((delay * 5 / 4))
        [ $delay -lt 20000 ] || { echo "    did not end"; return 1; }
    done
    [ $kills -gt 2 ]
}

killed_and_gone_on_with() {
    killed_often 10 killed --part 1/2 && says err "part 1 of 2 goes on for a train that was killed: process" && part 0 killed --part 0/2 &&
        killed_often 10 killed --collect && same_run killed
}

# held RUN I/N: that part, stopped still at its work; its process goes to `holder`
held() {
    "$build/train" --store "$store" --sweep "$work/long.yaml" --out "$work/$1" --threads 1 --part "$2" >"$work/log.held" 2>&1 </dev/null &
    holder=$!
    until grep -qs '"step": 1' "$work/$1"/trials/*/metrics.jsonl; do kill -0 $holder || return 1; done
    kill -STOP $holder
}
two_of_the_same() {
    sed 's/passes: 2/steps: 600/; s/evaluate: 7/evaluate: 300/' "$sweep" >"$work/long.yaml"
    held same 0/5 || return 1
    local sweep=$work/long.yaml
    part 1 same --part 0/5 && says err "part 0 of 5: another train is at work there: process $holder on" &&
        part 1 same --collect && says err "part 0 of 5 is at work: process $holder" && part 0 same --part 4/5 && kill -CONT $holder && wait $holder &&
        part 0 same --part 0/5 && says err "has ended; nothing is left to do" || { kill -KILL $holder; return 1; }
    at_once same 1/5 2/5 3/5 && "$build/train" --store "$store" --sweep "$sweep" --out "$work/same" --collect >"$work/log.0" 2>&1 &
    part 0 once
    wait $! && run 0 train --store "$store" --sweep "$sweep" --out "$work/same" && for trial in "$work"/once/trials/*; do
        cmp "$trial/head.safetensors" "$work/same/trials/${trial##*/}/head.safetensors" || return 1
    done
}

# A part whose claim is somebody else's by now stops, and leaves the claim alone.
taken_over() {
    held taken_over 0/5 || return 1
    rm "$work/taken_over/parts/0-of-5.claim.1"
    kill -CONT $holder
    ! wait $holder && grep -q "another train has taken over part 0 of 5" "$work/log.held" || return 1
    [ ! -e "$work/taken_over/parts/0-of-5.claim.1" ] && sweep=$work/long.yaml part 0 taken_over --part 0/5
}

# Of those that begin at the same time, all that agree go on, and the others are told what differs.
begun_at_once() {
    local i pids=() good=0
    for i in 0 1 2 3 4; do
        sed "s/seed: 4/seed: $((4 + i % 2))/" "$sweep" >"$work/seed.$i.yaml"
        "$build/train" --store "$store" --sweep "$work/seed.$i.yaml" --out "$work/race" --threads 1 --part $i/5 >"$work/log.$i" 2>&1 </dev/null &
        pids+=($!)
    done
    for i in 0 1 2 3 4; do
        if wait "${pids[i]}"; then good=$((good + 1)); else grep -q "this run was begun with seed" "$work/log.$i" || return 1; fi
    done
    [ $good = $((3 - $(grep -c '"seed": 5' "$work/race/run.json"))) ] && [ "$(ls -A "$work/race" | tr '\n' ' ')" = "parts run.json sweep.yaml trials " ]
}

# A full disk is not a trial's failure: the part ends, the others do not notice, and the same command goes on.
full_disk() {
    mkdir "$work/small" && mount -t tmpfs -o size=400k none "$work/small" || return 1
    dd if=/dev/zero of="$work/small/ballast" bs=4k count=72 2>/dev/null
    part 1 small/run --part 0/2 && says err "No space left" && ! grep -rq failed "$work/small/run/trials" && rm "$work/small/ballast" &&
        part 0 small/run --part 0/2 && part 0 small/run --part 1/2 && part 0 small/run --collect && same_run small/run
    local status=$?
    umount "$work/small"
    return $status
}

# Trials that halving ends are compared within a part; in one part, as without parts.
halving_within_parts() {
    local sweep=$work/halving.yaml
    printf 'steps: 16\nhalving: 2\nevaluate: 4\ngrid:\n  tap: [1]\n  head: [affine]\n  rate: [1e-3, 1e-2, 1e-4, 1e-5]\n' >"$sweep"
    part 0 halved && part 0 halves --part 0/1 && part 0 halves --collect && cmp "$work/halved/leaderboard.tsv" "$work/halves/leaderboard.tsv" || return 1
    part 0 quarters --part 0/2 && part 0 quarters --part 1/2 && part 0 quarters --collect && [ "$(cut -f 10 "$work/quarters/leaderboard.tsv" | grep -c done)" = 2 ]
}

for name in wrong_usage one_process same_bytes_in_parts collected_is_whole not_all_there begun_otherwise killed_and_gone_on_with two_of_the_same taken_over \
    begun_at_once halving_within_parts; do
    check $name
done
check_on_tmpfs full_disk
finish

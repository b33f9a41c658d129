#!/usr/bin/env bash
# sweeps.sh: what `train` makes of sweep files before anything runs: --dry-run, which writes nothing, and files
# and stores that do not fit.
. "$(dirname "$0")/lib.sh"
make_store=$build/tests/bench/make_store
store=$work/store
"$make_store" "$store" || exit 1
cat >"$work/sweep.yaml" <<'END'
seed: 4
passes: 2
evaluate: 7
sample: 4
defaults: {head: affine}
grid:
  tap: [1, 3]
  loss: [distillation, cross-entropy]
trials:
  - {tap: 2.mid, head: mlp}
  - {tap: 2, output: untied}
random:
  count: 3
  tap: [1, 2, 3]
  rate: {log_uniform: [1e-4, 1e-2]}
END

# The names of the trials of a dry run.
trials_of() { sed -n '2,/^$/s/ .*//p' "$work/out" | grep .; }

dry_run_lists_the_trials() {
    run 0 train --store "$store" --sweep "$work/sweep.yaml" --dry-run &&
        says out "9 trials, 20 steps of 4 sequences (64 tokens each, 1280 in all); 4 evaluations on 4 of" &&
        says out "Memory about" && says out "Time about" && says out "1-affine-copy-distillation-0.001 " &&
        [ "$(trials_of | sort -u | wc -l)" = 9 ] && trials_of >"$work/listed" || return 1
    run 0 train --store "$store" --sweep "$work/sweep.yaml" --out "$work/run" &&
        diff <(sort "$work/listed") <(ls "$work/run/trials")
}

dry_run_writes_nothing() {
    find "$work" | sort >"$work/../$$.before"
    run 0 train --store "$store" --sweep "$work/sweep.yaml" --out "$work/none" --dry-run &&
        [ ! -e "$work/none" ] && diff <(cat "$work/../$$.before") <(find "$work" | sort)
    local result=$?
    rm -f "$work/../$$.before"
    return $result
}

dry_run_as_json() {
    run 0 train --store "$store" --sweep "$work/sweep.yaml" --dry-run --json &&
        python3 - "$work/out" <<'END'
import json, sys
run = json.load(open(sys.argv[1]))
trials = run["trials"]
assert len(trials) == 9 and run["steps"] == 20 and run["tokens"] == 1280 and run["waves"] == 1, run
assert abs(sum(trial["share"] for trial in trials) - 1) < 1e-6
assert all(trial["memory"] > 4 * trial["trained"] > 0 and trial["seconds"] > 0 for trial in trials)
assert sum(trial["memory"] for trial in trials) == run["memory"]["trials"]
seconds = run["seconds"]
assert abs(seconds["all"] - sum(seconds[part] for part in ("begin", "trials", "shared"))) < 1e-6
END
}

dry_run_of_one_trial() {
    run 0 train --store "$store" --tap 3 --head affine --init ridge --steps 5 --dry-run &&
        says out "3-affine-ridge-distillation-0.001" && says out "1 trial, 5 steps of 4 sequences"
}

dry_run_of_a_part() {
    run 0 train --store "$store" --sweep "$work/sweep.yaml" --out "$work/none" --part 1/4 --dry-run &&
        says out "2 trials, 20 steps" && [ ! -e "$work/none" ] &&
        run 2 train --store "$store" --sweep "$work/sweep.yaml" --out "$work/none" --collect --dry-run &&
        says err "--collect and --dry-run"
}

# How many trials of each tap go on, and in how many waves, depends on no result.
dry_run_goes_through_waves_and_rungs() {
    printf 'steps: 20\nhalving: 4\nrandom: {count: 12, tap: [2], head: norm, rate: {uniform: [0.001, 0.01]}}\n' >"$work/halved.yaml"
    run 0 train --store "$store" --sweep "$work/halved.yaml" --dry-run --max-parallel 5 &&
        says out "Halving: 12 to step 2, 3 to step 5, 1 to step 20." && says out "At most 5 trials at a time: 5 waves, which read the batches of 24 steps" &&
        run 0 train --store "$store" --sweep "$work/halved.yaml" --dry-run --max-parallel 5 --json &&
        python3 - "$work/out" <<'END'
import json, sys
run = json.load(open(sys.argv[1]))
assert run["rungs"] == [{"step": 2, "trials": 12}, {"step": 5, "trials": 3}, {"step": 20, "trials": 1}], run["rungs"]
assert run["waves"] == 5 and run["live"] == 5
whole = sum(trial["seconds"] for trial in run["trials"])
part = (9 * 2 + 2 * 5 + 20) / 240
assert abs(run["seconds"]["trials"] / whole - part) < 1e-6
END
}

# In the same words, whether it would be run or not.
memory_is_refused() {
    for dry in "" --dry-run; do
        # shellcheck disable=SC2086 # nothing, or an option
        run 2 train --store "$store" --sweep "$work/sweep.yaml" --out "$work/little" --memory 1K $dry &&
            cp "$work/err" "$work/refused$dry" || return 1
    done
    diff <(grep -v device: "$work/refused") <(grep -v device: "$work/refused--dry-run")
}

# A larger count leaves what is trained as it is, and trains the rest.
random_trials_are_added() {
    printf 'steps: 3\nrandom: {count: %d, tap: [1, 2, 3], head: norm, rate: {log_uniform: [1e-4, 1e-2]}}\n' 2 >"$work/two.yaml"
    sed 's/count: 2/count: 4/' "$work/two.yaml" >"$work/four.yaml"
    run 0 train --store "$store" --sweep "$work/two.yaml" --out "$work/added" || return 1
    (cd "$work/added/trials" && ls) >"$work/before"
    touch "$work/mark"
    run 0 train --store "$store" --sweep "$work/four.yaml" --out "$work/added" || return 1
    [ "$(ls "$work/added/trials" | wc -l)" = 4 ] && [ "$(wc -l <"$work/before")" = 2 ] &&
        [ "$(find "$work/added/trials" -name head.safetensors -newer "$work/mark" | wc -l)" = 2 ] || return 1
    while read -r trial; do
        [ ! "$work/added/trials/$trial/head.safetensors" -nt "$work/mark" ] || return 1
    done <"$work/before"
}

dry_run_without_steps() {
    run 0 train --store "$store" --tap 3 --head affine --steps 0 --dry-run && says out "1 trial, 0 steps" &&
        says out "1 evaluation on 6 of 6 held-out"
}

# As the run itself, and without a folder for it.
# All values that cannot be, in one go.
all_faults_are_told() {
    printf 'grid:\n  tap: [1]\n  head: [affine, nonesuch]\n  rate: [1e-3, much]\nrandom:\n  - {count: 2, tap: 1, head: norm, rate: {uniform: [2, 1]}}\n' >"$work/bad.yaml"
    run 2 train --store "$store" --sweep "$work/bad.yaml" --out "$work/none" && [ "$(grep -c "bad.yaml: line" "$work/err")" = 3 ] &&
        says err "line 3: head" && says err "line 4: rate" && says err "line 6: rate: uniform: the lower bound 2" && [ ! -e "$work/none" ]
}

what_cannot_be_is_refused() {
    for dry in "" --dry-run; do
        # shellcheck disable=SC2086 # nothing, or an option
        printf 'seed: 1\ntrials:\n  - {tap: 2, head: norm}\n  - {tap: 2, head: norm, rate: 2e-3}\n  - {tap: 4.mid, head: mlp}\n' >"$work/bad.yaml" &&
            run 2 train --store "$store" --out "$work/none" --sweep "$work/bad.yaml" $dry &&
            says err "bad.yaml: line 5: tap: $store: there is no tap 4.mid; the store has" &&
            printf 'trials:\n  - {tap: 2, head: norm}\n\n  - {tap: 2, head: norm}\n' >"$work/bad.yaml" &&
            run 2 train --store "$store" --out "$work/none" --sweep "$work/bad.yaml" $dry &&
            says err "bad.yaml: line 4: trial 2-norm-copy-distillation-0.001 is given twice, here and in line 2" &&
            printf 'sequences: 99\ntrials:\n  - {tap: 2, head: norm}\n' >"$work/bad.yaml" &&
            run 2 train --store "$store" --out "$work/none" --sweep "$work/bad.yaml" $dry &&
            says err "bad.yaml: line 1: sequences: 99 per step are more than" &&
            [ ! -e "$work/none" ] && [ ! -s "$work/out" ] || return 1
    done
}

# A store without the final states cannot teach what needs them.
what_the_store_lacks_is_refused() {
    "$make_store" "$work/target" taps=1,2,target || return 1
    run 0 train --store "$work/target" --tap 2 --head norm --steps 1 --dry-run &&
        printf 'trials:\n- {tap: 2, head: affine}\n- {tap: 2, head: affine, init: ridge}\n' >"$work/bad.yaml" &&
        run 2 train --store "$work/target" --out "$work/none" --sweep "$work/bad.yaml" &&
        says err "bad.yaml: line 3: init: ridge is fitted to the states that the head's map leads to: $work/target: there is no tap final" &&
        run 2 train --store "$work/target" --out "$work/none" --tap 2 --head norm --output untied &&
        says err "--output: untied is taught by the final states" && [ ! -e "$work/none" ]
}

check dry_run_lists_the_trials
check dry_run_writes_nothing
check dry_run_as_json
check dry_run_of_one_trial
check dry_run_of_a_part
check dry_run_goes_through_waves_and_rungs
check dry_run_without_steps
check memory_is_refused
check random_trials_are_added
check all_faults_are_told
check what_cannot_be_is_refused
check what_the_store_lacks_is_refused
finish

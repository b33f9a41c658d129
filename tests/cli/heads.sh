#!/usr/bin/env bash
# heads.sh: trials of all kinds of heads: alone and among others the same bytes, and wherever the run was stopped; settings that go
# with a kind, and those that do not; a store of an earlier version gets the tensors that it lacks.
. "$(dirname "$0")/lib.sh"
make_store=$build/tests/bench/make_store

store=$work/store
"$make_store" "$store" || exit 1
cat >"$work/all.yaml" <<'END'
seed: 4
steps: 7
evaluate: 3
checkpoint: 2
sequences: 2
defaults: {rate: 1e-2, warmup: 2}
trials:
  - {tap: 1, head: embedding}
  - {tap: 1, head: embedding, output: untied}
  - {tap: 1, head: affine, rank: 4, init: ridge}
  - {tap: 1, head: affine, rank: 4}
  - {tap: 2, head: affine, rank: 6, init: ridge}
  - {tap: 1, head: affine+mlp, init: ridge}
  - {tap: 2, head: affine+mlp, output: untied, init: random}
  - {tap: 2.mid, head: mlp}
  - {tap: 3, head: block}
  - {tap: 1, head: block, init: random}
  - {tap: 1, head: bridge, to: 3, init: ridge}
  - {tap: 2, head: bridge, to: 3, rank: 5, init: ridge, loss: cross-entropy}
  - {tap: 1, head: bridge, layers: frozen}
  - {tap: 3, head: bridge, to: 3, output: untied}
END
trials=14

train_all() { # train_all STATUS RUN ARGUMENT...
    local status=$1 out=$2
    shift 2
    run "$status" train --store "$store" --sweep "$work/all.yaml" --out "$work/$out" "$@"
}

all_kinds_in_one_run() {
    train_all 0 all && [ "$(ls "$work/all/trials" | wc -l)" = $trials ] &&
        [ -d "$work/all/trials/1-bridge-to3-ridge-distillation-0.01-warmup2" ] &&
        [ -d "$work/all/trials/2-bridge-to3-rank5-ridge-cross-entropy-0.01-warmup2" ] &&
        [ -d "$work/all/trials/1-bridge-frozen-copy-distillation-0.01-warmup2" ] &&
        ! grep -q failed "$work/all/leaderboard.tsv"
}

each_alone() {
    for n in 1 3; do
        train_all 0 "live$n" --max-parallel $n --threads $n && same_trials all "live$n" || return 1
    done
    run 0 train --store "$store" --tap 1 --head bridge --to 3 --init ridge --seed 4 --steps 7 --evaluate 3 --sequences 2 --rate 1e-2 \
        --warmup 2 --out "$work/alone" && same_trials alone all
}

# A run that is killed again and again, at any moment, comes to the same. Each time it gets further.
killed_and_gone_on() {
    local n=0 process
    until [ -e "$work/killed/leaderboard.tsv" ] || [ $n = 30 ]; do
        "$build/train" --store "$store" --sweep "$work/all.yaml" --out "$work/killed" >/dev/null 2>&1 &
        process=$!
        sleep "0.$((10 + 7 * n))"
        kill -9 $process 2>/dev/null
        wait $process 2>/dev/null
        n=$((n + 1))
    done
    train_all 0 killed && same_trials all killed
}

# A head that has nothing to train is only evaluated.
nothing_to_train() {
    run 2 train --store "$store" --tap 1 --head embedding --out "$work/none" && says err "embedding, tied, has nothing to train" &&
        [ ! -e "$work/none" ] && run 0 train --store "$store" --tap 1 --head embedding --steps 0 --out "$work/none" &&
        [ -e "$work/none/trials/1-embedding-copy-distillation-0.001/head.safetensors" ] &&
        cmp "$work/none/trials/1-embedding-copy-distillation-0.001/head.safetensors" \
            "$work/all/trials/1-embedding-copy-distillation-0.01-warmup2/head.safetensors" &&
        run 0 train --store "$store" --tap 1 --head embedding --steps 0 --out "$work/none" --json && says out '"layers": "trained"' &&
        says out '"cost_in_layers"'
}

refuse() { # refuse TEXT ARGUMENT...
    local text=$1
    shift
    run 2 train --store "$store" --out "$work/refused" "$@" && says err "$text" && [ ! -e "$work/refused" ]
}

settings_that_do_not_go_together() {
    refuse "--rank: a head of kind norm has no affine map" --tap 1 --head norm --rank 4 &&
        refuse "--to: a head of kind affine has none of the model's last layers" --tap 1 --head affine --to 3 &&
        refuse "--layers: a head of kind block has none" --tap 1 --head block --layers frozen &&
        refuse "--to: a head of kind bridge leads to a tap from 2 to 3, not to 1" --tap 1 --head bridge --to 1 &&
        refuse "does not lead back from tap 3 to 2" --tap 3 --head bridge &&
        refuse "--to: \"final\" is not a tap after a layer" --tap 1 --head bridge --to final &&
        refuse "--init: a head of kind block has no ridge" --tap 1 --head block --init ridge &&
        refuse "--rank: a map of" --tap 1 --head affine --rank 4000 &&
        printf 'trials:\n  - {tap: 1, head: norm}\n  - {tap: 1, head: norm,\n     rank: 3}\n' >"$work/bad.yaml" &&
        refuse "bad.yaml: line 4: rank: " --sweep "$work/bad.yaml"
}

memory_and_time() {
    run 0 train --store "$store" --sweep "$work/all.yaml" --out "$work/dry" --dry-run && says out "1-bridge-to3-ridge" && [ ! -e "$work/dry" ]
}

check all_kinds_in_one_run
check each_alone
check killed_and_gone_on
check nothing_to_train
check settings_that_do_not_go_together
check memory_and_time
finish

#!/usr/bin/env bash
# shards.sh: extract in shards: train on them as on the whole, the looks of one, and what is refused.
. "$(dirname "$0")/lib.sh"
tiny=tests/golden/gguf-llama.gguf # 2 layers, 64 tokens, no tokenizer
ids=$work/ids.u16 held_out=$work/held.u16
perl -e 'srand(3); print pack("v*", map { int(rand(64)) } 1 .. 3000)' | tee "$held_out" >"$ids"
common=(--model "$tiny" --corpus "$ids" --held-out-corpus "$held_out" --held-out-tokens 160 --seq-len 16 --taps 1,1.mid,final)

# extract_shard I/N: into $work/I.N
extract_shard() { run 0 extract "${common[@]}" --out "$work/${1/\//.}" --shard "$1"; }

make_shards() {
    run 0 extract "${common[@]}" --out "$work/whole" || return 1
    local shard
    for shard in 0/2 1/2 0/3 1/3 2/3; do extract_shard $shard || return 1; done
    says out "of these this is shard 2 of 3 (counted from 0): 62 and 3 sequences"
}

wrong_usage() {
    local required=(--model m --out o --corpus c) text
    for text in 1 /2 1/ 2/2 -1/2 1/2/3 a/b 0/0; do
        run 2 extract "${required[@]}" --shard $text && says err "--shard: \"" || return 1
    done
}

# The exported states of every tap, whose order is the corpus's.
same_states() {
    local n tap paths
    for tap in 1 1.mid final; do
        run 0 cache export "$work/whole" --tap $tap --out "$work/whole.safetensors" || return 1
        for n in 2 3; do
            paths=("$work"/?.$n)
            run 0 cache export "${paths[@]}" --tap $tap --out "$work/$n.safetensors" &&
                cmp "$work/whole.safetensors" "$work/$n.safetensors" || return 1
        done
    done
}

# train_on NAME STORE...
train_on() {
    local name=$1 stores=() store
    shift
    for store in "$@"; do stores+=(--store "$store"); done
    run 0 train "${stores[@]}" --out "$work/run.$name" --sweep "$work/sweep.yaml"
}

same_training() {
    printf 'steps: 30\nsequences: 3\ntrials:\n  - {tap: 1, head: affine, init: ridge}\n  - {tap: 1.mid, head: mlp}\n' >"$work/sweep.yaml"
    local n trial
    train_on whole "$work/whole" || return 1
    for n in 2 3; do
        train_on $n "$work"/?.$n || return 1
        for trial in "$work"/run.whole/trials/*; do
            cmp "$trial/head.safetensors" "$work/run.$n/trials/$(basename "$trial")/head.safetensors" || return 1
        done
        cmp "$work/run.whole/leaderboard.tsv" "$work/run.$n/leaderboard.tsv" || return 1
    done
    # A run begun on shards goes on with the whole: it is the same extraction.
    run 0 train --store "$work/whole" --out "$work/run.3" --sweep "$work/sweep.yaml"
}

looks_of_a_shard() {
    local shard
    for shard in 0.2 2.3; do
        run 0 cache verify "$work/$shard" || return 1
        run 0 cache info "$work/$shard" && says out "shard       ${shard%.*} of ${shard#*.} (counted from 0)" &&
            says out "finished" || return 1
    done
}

goes_on_as_the_same_shard() {
    run 0 extract "${common[@]}" --out "$work/2.3" --shard 2/3 --json && says out '"computed_tokens": 0' &&
        run 2 extract "${common[@]}" --out "$work/2.3" --shard 1/3 &&
        says err "was made with another --shard: 2/3; this command has 1/3" &&
        run 2 extract "${common[@]}" --out "$work/2.3" && says err "another --shard: 2/3; this command has none" &&
        run 0 extract "${common[@]}" --out "$work/whole" --shard 0/1
}

more_shards_than_sequences() {
    head -c 100 "$ids" >"$work/few.u16"
    local few=(--model "$tiny" --corpus "$work/few.u16" --held-out 0 --seq-len 16 --taps 1)
    run 0 extract "${few[@]}" --out "$work/7.9" --shard 7/9 && says out "shard 7 of 9 (counted from 0): 0 and 0 sequences" &&
        run 0 cache verify "$work/7.9" && run 0 cache info "$work/7.9" && says out finished
}

wrong_combinations() {
    local trial=(--out "$work/none" --tap 1 --head norm)
    run 2 train --store "$work/0.3" --store "$work/2.3" "${trial[@]}" && says err "is shard 0 of 3: all 3 are needed, and 2 given" &&
        run 2 train --store "$work/0.2" --store "$work/1.3" "${trial[@]}" && says err "1.3: is shard 1 of 3" &&
        run 2 train --store "$work/1.2" --store "$work/1.2" "${trial[@]}" && says err "are both shard 1" &&
        run 2 train --store "$work/whole" --store "$work/1.2" "${trial[@]}" && says err "whole: is shard 0 of 1" &&
        run 0 extract "${common[@]}" --held-out-tokens 320 --out "$work/other" --shard 1/2 &&
        run 1 train --store "$work/0.2" --store "$work/other" "${trial[@]}" &&
        says err "are not shards of one store: \"corpus.held_out_tokens\" differs" && [ ! -e "$work/none" ]
}

# A corpus and a model may lie elsewhere on the next machine.
moved() {
    mkdir "$work/elsewhere" && cp "$ids" "$work/elsewhere/other.u16" && cp "$tiny" "$work/elsewhere/renamed.gguf" &&
        run 0 extract --model "$work/elsewhere/renamed.gguf" --corpus "$work/elsewhere/other.u16" \
            --held-out-corpus "$held_out" "${common[@]:6}" --out "$work/moved" --shard 1/2 &&
        run 0 cache export "$work/0.2" "$work/moved" --tap final --out "$work/moved.safetensors" &&
        cmp "$work/whole.safetensors" "$work/moved.safetensors"
}

job_array() (
    take_jobs
    printf 'trials:\n  - {tap: 1, head: norm}\n' >"$work/sweep.yaml"
    pipelines/slurm.sh "$work/array" "${common[@]:0:4}" --sweep "$work/sweep.yaml" --shards 2 -- "${common[@]:4}" >"$work/out" 2>"$work/err" || return 1
    for task in 0 1; do
        SLURM_ARRAY_JOB_ID=1 SLURM_ARRAY_TASK_ID=$task pipelines/slurm.sh --task extract "$work/array" >"$work/out" 2>"$work/err" || return 1
    done
    run 0 cache export "$work"/array/store/* --tap final --out "$work/array.safetensors" &&
        cmp "$work/whole.safetensors" "$work/array.safetensors"
)

check make_shards
check wrong_usage
check same_states
check same_training
check looks_of_a_shard
check goes_on_as_the_same_shard
check more_shards_than_sequences
check wrong_combinations
check moved
check job_array
finish

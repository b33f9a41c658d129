#!/usr/bin/env bash
# held_out.sh: what extract holds out: documents, or runs of sequences where those are too few; what it refuses before
# anything is computed; that the split is the same in shards, after a stop and when the corpus grows.
. "$(dirname "$0")/lib.sh"
tiny=tests/golden/gguf-llama.gguf # 2 layers, 64 tokens, no tokenizer; 2 ends a text
common=(--model "$tiny" --seq-len 16 --taps 1,1.mid,final)

# no_end SEED COUNT: one document
no_end() { perl -e 'srand($ARGV[0]); print pack("v*", map { 3 + int(rand(61)) } 1 .. $ARGV[1])' "$1" "$2"; }

same_records() {
    local tap
    for tap in 1 1.mid final target; do
        run 0 cache export --tap $tap --out "$work/a" "$1" && run 0 cache export --tap $tap --out "$work/b" "$2" &&
            cmp "$work/a" "$work/b" || return 1
    done
}

# 100 sequences: 4 and 2 + 4 runs' sequences at a twentieth are 7, with two gaps each.
one_document() {
    no_end 1 1601 >"$work/one.u16"
    run 0 extract "${common[@]}" --corpus "$work/one.u16" --out "$work/one" &&
        says out "87 training and 7 held-out sequences of 16 tokens, from 1 and 0 documents" &&
        says err "documents are too few to hold some out, so runs of sequences are" &&
        run 0 extract "${common[@]}" --corpus "$work/one.u16" --out "$work/one" --json && says out '"split": "runs"' &&
        says out '"computed_tokens": 0' && run 0 cache info --json "$work/one" && says out '"split": "runs"' &&
        run 0 cache info "$work/one" && says out "runs of sequences are held out"
}

# Enough documents: nothing is said, and the manifest has it.
documents() {
    perl -e 'srand(9); print pack("v*", map { int(rand(64)) } 1 .. 4000)' >"$work/many.u16"
    run 0 extract "${common[@]}" --corpus "$work/many.u16" --held-out 0.2 --out "$work/many" && ! grep -q runs "$work/err" &&
        says out "whole documents are held out" && run 0 cache info "$work/many" && says out "whole documents are held out" && run 0 cache info --json "$work/many" && says out '"split": "documents"' &&
        run 0 extract "${common[@]}" --corpus "$work/many.u16" --held-out 0 --out "$work/none" && says out "nothing is held out" &&
        run 0 extract "${common[@]}" --corpus "$work/many.u16" --held-out-corpus "$work/one.u16" --out "$work/two" &&
        says out "the held-out corpus is held out"
}

forecast() {
    run 0 extract "${common[@]}" --corpus "$work/one.u16" --out "$work/dry" --dry-run &&
        says out "87 training and 7 held-out sequences" && says out "runs of sequences" &&
        run 0 extract "${common[@]}" --corpus "$work/one.u16" --out "$work/dry" --dry-run --json --held-out-tokens 48 &&
        says out '"split": "runs"' && says out '"held_out_sequences": 3' && says out '"train_sequences": 87' &&
        [ ! -e "$work/dry" ]
}

caps() {
    run 0 extract "${common[@]}" --corpus "$work/one.u16" --tokens 160 --held-out-tokens 48 --out "$work/caps" &&
        says out "10 training and 3 held-out sequences"
}

# Before a store is begun.
too_little() {
    no_end 2 48 >"$work/short.u16" # with the end of text, 49 tokens: three sequences
    run 0 extract "${common[@]}" --corpus "$work/short.u16" --out "$work/short" && says out "1 training and 1 held-out" || return 1
    head -c 94 "$work/short.u16" >"$work/shorter.u16"
    run 1 extract "${common[@]}" --corpus "$work/shorter.u16" --out "$work/none2" &&
        says err "does not fill three sequences of 16 tokens" && says err "--held-out 0" &&
        head -c 20 "$work/short.u16" >"$work/tiny.u16" &&
        run 1 extract "${common[@]}" --corpus "$work/one.u16" --held-out-corpus "$work/tiny.u16" --out "$work/none2" &&
        says err "--held-out-corpus: the documents do not fill one sequence of 16 tokens" &&
        run 1 extract "${common[@]}" --corpus "$work/tiny.u16" --held-out 0 --out "$work/none2" &&
        says err "the training documents do not fill one sequence" && [ ! -e "$work/none2" ]
}

shards() {
    local shard
    for shard in 0 1 2; do
        run 0 extract "${common[@]}" --corpus "$work/one.u16" --shard $shard/3 --out "$work/shard$shard" || return 1
    done
    run 0 cache merge "$work"/shard? --out "$work/merged" && same_records "$work/one" "$work/merged"
}

# A grown text keeps what was held out; so it does when so many documents come that they would do.
growth() {
    cp "$work/one.u16" "$work/grown.u16"
    run 0 extract "${common[@]}" --corpus "$work/grown.u16" --out "$work/grown" && no_end 3 1000 >>"$work/grown.u16" &&
        run 0 extract "${common[@]}" --corpus "$work/grown.u16" --out "$work/grown" && says err "the corpus has grown" &&
        run 0 extract "${common[@]}" --corpus "$work/grown.u16" --out "$work/fresh" && same_records "$work/fresh" "$work/grown" &&
        run 0 extract "${common[@]}" --corpus "$work/grown.u16" "$work/many.u16" --out "$work/grown" --json &&
        says out '"split": "runs"' && run 0 cache verify "$work/grown"
}

kills() {
    local round
    no_end 4 60000 >"$work/killed.u16"
    for round in 1 2 3 4; do
        "$build/extract" "${common[@]}" --corpus "$work/killed.u16" --out "$work/killed" >/dev/null 2>&1 &
        sleep 0.$((RANDOM % 4))$((RANDOM % 10))
        kill -9 $! 2>/dev/null
        wait $! 2>/dev/null
    done
    run 0 extract "${common[@]}" --corpus "$work/killed.u16" --out "$work/killed" &&
        run 0 extract "${common[@]}" --corpus "$work/killed.u16" --out "$work/whole" && same_records "$work/killed" "$work/whole"
}

# By whatever name.
same_file() {
    mkdir -p "$work/folder" && cp "$work/one.u16" "$work/folder/a.u16" && ln -s folder/a.u16 "$work/link.u16" &&
        ln "$work/folder/a.u16" "$work/hard.u16" && ln -s folder "$work/other" || return 1
    local held
    for held in folder/a.u16 folder link.u16 hard.u16 other; do
        run 2 extract "${common[@]}" --corpus "$work/folder" --held-out-corpus "$work/$held" --out "$work/same" &&
            says err "is a file of --corpus, too ($work/folder/a.u16)" && says err "--held-out-corpus: $work/${held%/a.u16}" || return 1
    done
    run 2 extract "${common[@]}" --corpus "$work/folder/a.u16" --held-out-corpus "$work/other" --out "$work/same" &&
        says err "other/a.u16 is a file of --corpus, too" && [ ! -e "$work/same" ]
}

# From one text to heads; and what train says of a store that has nothing to measure them by.
tuned() {
    BUILD=$(realpath "$build") pipelines/tune.sh --seq-len 16 --taps 1,final --held-out 0.1 "$tiny" "$work/one.u16" "$work/tuned" \
        >"$work/out" 2>"$work/err" && says err "runs of sequences" && [ -e "$work/tuned/run/report.html" ] &&
        BUILD=$(realpath "$build") pipelines/tune.sh --seq-len 16 --taps 1,final --held-out-corpus "$work/many.u16" "$tiny" "$work/one.u16" \
            "$work/tuned2" >"$work/out" 2>"$work/err" && says out "the held-out corpus is held out" &&
        run 1 train --store "$work/none" --sweep "$work/tuned/sweep.yaml" --out "$work/no" &&
        says err "holds no held-out sequences" && says err "cache split"
}

empty() {
    local option
    mkdir "$work/empty" && : >"$work/empty/a.u16" && : >"$work/empty/b.u16"
    for option in --held-out=0.1 --held-out=0 --held-out-corpus="$work/many.u16"; do
        run 1 extract "${common[@]}" --corpus "$work/empty" "$option" --out "$work/none.at.all" &&
            says err "--corpus: is empty: there is not one token in its files ($work/empty/a.u16" || return 1
    done
    run 1 extract "${common[@]}" --corpus "$work/empty/a.u16" --out "$work/none.at.all" --dry-run && says err "is empty" &&
        [ ! -e "$work/none.at.all" ]
}

check one_document
check documents
check forecast
check caps
check too_little
check empty
check shards
check growth
check kills
check same_file
check tuned
finish

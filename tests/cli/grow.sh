#!/usr/bin/env bash
# grow.sh: a store whose corpus has grown at its end goes on, to the store that the grown corpus gives; one
# whose corpus has changed is refused and left as it is.
. "$(dirname "$0")/lib.sh"
tiny=tests/golden/gguf-llama.gguf # 2 layers, 64 tokens, no tokenizer; 2 ends a text
common=(--model "$tiny" --seq-len 16 --taps 1,1.mid,final)

# ids SEED COUNT: random tokens, an end of text every 64 or so
ids() { perl -e 'srand($ARGV[0]); print pack("v*", map { int(rand(64)) } 1 .. $ARGV[1])' "$1" "$2"; }

# no_end SEED COUNT: one document
no_end() { perl -e 'srand($ARGV[0]); print pack("v*", map { 3 + int(rand(61)) } 1 .. $ARGV[1])' "$1" "$2"; }

# Both are finished, hold the same and differ in nothing that info tells of them but their names.
same_stores() {
    local tap
    run 0 cache verify "$1" "$2" || return 1
    for tap in 1 1.mid final target; do
        run 0 cache export --tap $tap --out "$work/a" "$1" && run 0 cache export --tap $tap --out "$work/b" "$2" &&
            cmp "$work/a" "$work/b" || return 1
    done
    [ -e "$1/sealed" ] && [ -e "$2/sealed" ] && run 0 cache info --json "$1" &&
        grep -E '"(files|fingerprint|train|held_out)"' "$work/out" >"$work/a" && run 0 cache info --json "$2" &&
        diff "$work/a" <(grep -E '"(files|fingerprint|train|held_out)"' "$work/out")
}

# goes_on FROM OPTION...: the store goes on with the corpus as it is now, and ends as one made of it at once
goes_on() {
    local store=$work/$1
    shift
    run 0 extract "${common[@]}" "$@" --out "$store" && says err "the corpus has grown: going on behind" &&
        rm -rf "$work/fresh" && run 0 extract "${common[@]}" "$@" --out "$work/fresh" && same_stores "$work/fresh" "$store" &&
        run 0 extract "${common[@]}" "$@" --out "$store" && ! grep -q "has grown" "$work/err"
}

# The last file of the corpus, and later of those held out, has more at its end.
grown_files() {
    ids 1 1500 >"$work/train.u16" && ids 2 333 >"$work/held.u16"
    local corpus=(--corpus "$work/train.u16" --held-out-corpus "$work/held.u16")
    run 0 extract "${common[@]}" "${corpus[@]}" --out "$work/files" || return 1
    ids 3 500 >>"$work/train.u16" && goes_on files "${corpus[@]}" || return 1
    ids 4 7 >>"$work/train.u16" && goes_on files "${corpus[@]}" || return 1
    ids 5 200 >>"$work/held.u16" && ids 6 100 >>"$work/train.u16" && goes_on files "${corpus[@]}"
}

# Documents behind the last one, some of which a hash of their number holds out.
new_documents() {
    ids 11 2000 >"$work/one.u16" && ids 12 900 >"$work/two.u16" && ids 13 1100 >"$work/three.u16"
    run 0 extract "${common[@]}" --corpus "$work/one.u16" --held-out 0.3 --out "$work/documents" &&
        goes_on documents --corpus "$work/one.u16" "$work/two.u16" "$work/three.u16" --held-out 0.3
}

# The last sequence's last label was the end of the only document, which goes on now.
last_sequence_made_again() {
    no_end 21 160 >"$work/whole.u16"
    run 0 extract "${common[@]}" --corpus "$work/whole.u16" --held-out 0 --out "$work/last" &&
        says out "10 training" && no_end 22 50 >>"$work/whole.u16" &&
        goes_on last --corpus "$work/whole.u16" --held-out 0 || return 1
    run 0 cache info --json "$work/last" && [ "$(grep -c '"train": 13' "$work/out")" = 4 ]
}

# What extract says it has stored is that of the store made at once, the record made again counted once.
summary_counts_once() {
    run 0 extract "${common[@]}" --corpus "$work/whole.u16" --held-out 0 --out "$work/fresh" --json &&
        grep '"bytes"' "$work/out" >"$work/a" &&
        run 0 extract "${common[@]}" --corpus "$work/whole.u16" --held-out 0 --out "$work/last" --json &&
        diff "$work/a" <(grep '"bytes"' "$work/out")
}

shards() {
    local shard
    ids 31 1000 >"$work/sharded.u16"
    for shard in 0 1; do
        run 0 extract "${common[@]}" --corpus "$work/sharded.u16" --held-out 0.2 --shard $shard/2 --out "$work/shard$shard" || return 1
    done
    ids 32 800 >>"$work/sharded.u16"
    for shard in 0 1; do
        run 0 extract "${common[@]}" --corpus "$work/sharded.u16" --held-out 0.2 --shard $shard/2 --out "$work/shard$shard" || return 1
    done
    run 0 cache merge "$work"/shard? --out "$work/merged" && rm -rf "$work/fresh" &&
        run 0 extract "${common[@]}" --corpus "$work/sharded.u16" --held-out 0.2 --out "$work/fresh" &&
        same_stores "$work/fresh" "$work/merged"
}

# Killed at any moment of going on, the same command goes on.
kills() {
    local round corpus=(--corpus "$work/killed.u16" --held-out 0.2)
    ids 41 30000 >"$work/killed.u16"
    run 0 extract "${common[@]}" "${corpus[@]}" --out "$work/killed" && ids 42 60000 >>"$work/killed.u16" || return 1
    for round in 1 2 3 4 5 6; do
        "$build/extract" "${common[@]}" "${corpus[@]}" --out "$work/killed" >/dev/null 2>&1 &
        sleep 0.$((RANDOM % 4))$((RANDOM % 10))
        kill -9 $! 2>/dev/null
        wait $! 2>/dev/null # it may hold the store's lock until it is gone
        [ $round != 3 ] || ids 43 5000 >>"$work/killed.u16" # it grows once more meanwhile
    done
    run 0 extract "${common[@]}" "${corpus[@]}" --out "$work/killed" &&
        rm -rf "$work/fresh" && run 0 extract "${common[@]}" "${corpus[@]}" --out "$work/fresh" &&
        same_stores "$work/fresh" "$work/killed"
}

# A store of before the target had best tokens (ids 1 50 and ids 2 17, by the ref backend, which is the same on every
# machine): it is read, and goes on without them. Its records are those of a new store but for these columns.
target_without_best_tokens() {
    local old=$work/without-best options=(--model "$tiny" --seq-len 16 --taps 1,final --codec raw --device ref)
    tar -xzf tests/golden/without-best.tar.gz -C "$work" || return 1
    ids 1 50 >"$work/old.u16" && ids 2 17 >"$work/old-held.u16"
    options+=(--corpus "$work/old.u16" --held-out-corpus "$work/old-held.u16")
    run 0 cache verify "$old" && run 0 cache info "$old" && says out "top, probability, entropy, loss" &&
        run 0 extract "${options[@]}" --out "$old" && says err "it goes on without them" &&
        run 0 train --store "$old" --out "$work/old-run" --tap 1 --head norm --steps 2 || return 1
    ids 1 90 >"$work/old.u16"
    run 0 extract "${options[@]}" --out "$old" && says err "the corpus has grown: going on behind" &&
        says err "it goes on without them" && run 0 cache verify "$old" && run 0 cache info "$old" &&
        says out "top, probability, entropy, loss" && ! grep -q "best x" "$work/out" &&
        run 0 extract "${options[@]}" --out "$work/new" && ! grep -q "without them" "$work/err" &&
        run 0 cache info "$work/new" && says out "loss, best x 8, best_probability x 8" || return 1
    local tap column
    for tap in 1 final target; do
        run 0 cache export --tap $tap --format npy --out "$work/npy-old" "$old" &&
            run 0 cache export --tap $tap --format npy --out "$work/npy-new" "$work/new" || return 1
        for column in "$work"/npy-old/*.npy; do
            cmp "$column" "$work/npy-new/${column##*/}" || return 1
        done
        [ $tap != target ] || [ -e "$work/npy-new/best.npy" ] || return 1
        rm -r "$work/npy-old" "$work/npy-new"
    done
}

# refused STATUS TEXT OPTION...: and the store is as it was
refused() {
    local status=$1 text=$2 sum
    shift 2
    sum=$(sha256sum <"$work/kept/data.mdb")
    run "$status" extract "${common[@]}" "$@" --out "$work/kept" && says err "$text" && [ -e "$work/kept/sealed" ] &&
        [ "$sum" = "$(sha256sum <"$work/kept/data.mdb")" ]
}

changed() {
    ids 51 2000 >"$work/kept.u16" && ids 52 300 >"$work/more.u16"
    run 0 extract "${common[@]}" --corpus "$work/kept.u16" --held-out 0.2 --out "$work/kept" || return 1
    (ids 53 2 && cat "$work/kept.u16" && ids 54 500) >"$work/edited.u16"
    refused 1 "the corpus has changed before the end that it had: train sequence 0 has other tokens" --corpus "$work/edited.u16" --held-out 0.2 &&
        refused 2 "--held-out: 0.2; this command has 0.1:" --corpus "$work/kept.u16" "$work/more.u16" --held-out 0.1 &&
        refused 2 "--seq-len" --corpus "$work/kept.u16" "$work/more.u16" --held-out 0.2 --seq-len 32 &&
        refused 1 "the corpus has changed before the end that it had" --corpus "$work/more.u16" "$work/kept.u16" --held-out 0.2 &&
        refused 1 "the corpus has changed" --corpus "$work/one.u16" "$work/two.u16" --held-out 0.2 || return 1
    head -c 3000 "$work/kept.u16" >"$work/less.u16"
    refused 1 "--corpus (bytes)" --corpus "$work/less.u16" --held-out 0.2
}

check grown_files
check new_documents
check last_sequence_made_again
check summary_counts_once
check shards
check kills
check target_without_best_tokens
check changed
finish

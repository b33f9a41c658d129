#!/usr/bin/env bash
# split.sh: a store that was made without a held-out split is given one: whole or in shards, what the other commands make
# of it, and what is refused.
. "$(dirname "$0")/lib.sh"
tiny=tests/golden/gguf-llama.gguf # 2 layers, 64 tokens, no tokenizer; 2 ends a text
common=(--model "$tiny" --seq-len 16 --taps 1,final)
ids() { perl -e 'srand($ARGV[0]); print pack("v*", map { int(rand(64)) } 1 .. $ARGV[1])' "$1" "$2"; }
no_end() { perl -e 'srand($ARGV[0]); print pack("v*", map { 3 + int(rand(61)) } 1 .. $ARGV[1])' "$1" "$2"; }
ids 1 4000 >"$work/many.u16" && no_end 2 4000 >"$work/one.u16"
printf 'steps: 4\nsequences: 3\ntrials:\n  - {tap: 1, head: norm}\n' >"$work/sweep.yaml"

# make NAME CORPUS OPTION...: a store without a split
make() { run 0 extract "${common[@]}" --corpus "$work/$2.u16" --held-out 0 --out "$work/$1" "${@:3}"; }

# exported NAME OPTION...: of what train and other programs see
exported() { run 0 cache export --tap 1 --out "$work/exported.$1" "${@:2}"; }

# Training finds nothing held out, says what to do, and does it then.
train_takes_it() {
    make many many || return 1
    run 1 train --store "$work/many" --out "$work/run" --sweep "$work/sweep.yaml" && says err "cache split" || return 1
    exported before "$work/many" && run 0 cache split --held-out 0.1 "$work/many" && says out "of documents" || return 1
    run 0 train --store "$work/many" --out "$work/run" --sweep "$work/sweep.yaml" || return 1
    run 0 cache info "$work/many" && says out "$(grep -o '"held_out_sequences":[0-9]*' "$work/run/run.json" | cut -d: -f2) held-out of 16" &&
        says out "by \`cache split\`" && says out "finished" && run 0 cache verify "$work/many"
}

# One document: runs of sequences with others between.
one_document() {
    make one one && run 0 cache split "$work/one" && says out " of sequences; " &&
        run 0 cache info --json "$work/one" && says out '"held_out_sequences": 1' &&
        run 0 train --store "$work/one" --out "$work/run.one" --sweep "$work/sweep.yaml"
}

# Whatever the number of shards, the same are held out; merged and coded anew, too.
shards_agree() {
    local n i paths name
    exported whole "$work/many" || return 1
    for n in 2 3; do
        paths=()
        for ((i = 0; i < n; i++)); do
            make "$i.$n" many --shard "$i/$n" || return 1
            paths+=("$work/$i.$n")
        done
        run 0 cache split --held-out 0.1 "${paths[@]}" && exported "$n" "${paths[@]}" &&
            cmp "$work/exported.whole" "$work/exported.$n" || return 1
        run 0 cache merge --out "$work/merged.$n" "${paths[@]}" && exported merged "$work/merged.$n" &&
            cmp "$work/exported.whole" "$work/exported.merged" || return 1
    done
    run 0 cache recode --codec raw:f32 --out "$work/recoded" "$work/many" && run 0 cache recode --codec lossless --out "$work/back" "$work/recoded" &&
        exported back "$work/back" && cmp "$work/exported.whole" "$work/exported.back" || return 1
    run 2 cache split "$work/0.3" && says err "all 3 are needed"
}

# A command that was stopped has given it to some shards: nobody reads those as one, and the same command goes on.
stopped_between() {
    make 0.s many --shard 0/2 && make 1.s many --shard 1/2 && cp -r "$work/0.s" "$work/old" || return 1
    run 0 cache split --held-out 0.1 "$work/0.s" "$work/1.s" && rm -r "$work/0.s" && mv "$work/old" "$work/0.s" || return 1
    run 1 cache export --tap 1 --out "$work/e" "$work/0.s" "$work/1.s" && says err "give \`cache split\` again" || return 1
    run 1 cache merge --out "$work/m" "$work/0.s" "$work/1.s" && says err "give \`cache split\` again" || return 1
    run 0 cache split --held-out 0.1 "$work/0.s" "$work/1.s" && exported s "$work/1.s" "$work/0.s" &&
        cmp "$work/exported.whole" "$work/exported.s"
}

# One that is there stays, unless the command says so; 0 takes it away, and everything is as before.
replaced() {
    run 0 cache split --held-out 0.1 "$work/many" || return 1
    run 2 cache split --held-out 0.3 "$work/many" && says err "--replace" || return 1
    run 0 cache split --held-out 0.3 --replace "$work/many" && exported three "$work/many" &&
        ! cmp -s "$work/exported.whole" "$work/exported.three" || return 1
    run 2 train --store "$work/many" --out "$work/run" --sweep "$work/sweep.yaml" && says err "another store" || return 1
    run 2 cache split --held-out 0 "$work/many" && says err "--replace" || return 1
    run 0 cache split --held-out 0 --replace "$work/many" && exported after "$work/many" &&
        cmp "$work/exported.before" "$work/exported.after"
}

# counted NAME STORE...: sequences of the split
counted() { run 0 cache info --json "${@:2}" && grep -o "\"$1_sequences\": [0-9]*" "$work/out" | grep -o '[0-9]*'; }

# What extract held out stays held out, and counts towards the share.
of_extract() {
    run 0 extract "${common[@]}" --corpus "$work/many.u16" --held-out 0.2 --out "$work/own" || return 1
    local own all more
    own=$(counted held_out "$work/own") && all=$((own + $(counted train "$work/own"))) && exported own "$work/own" || return 1
    run 2 cache split "$work/own" && says err "extract held out $own sequences already" &&
        run 2 cache split --held-out 0.4 "$work/own" && says err "extract held out $own sequences already" || return 1
    run 0 cache split --held-out 0.05 --replace "$work/own" && says err "the $own sequences that extract held out stay held out" &&
        says err "no more are held out" && exported same "$work/own" && cmp "$work/exported.own" "$work/exported.same" || return 1
    run 0 cache split --held-out 0.4 --replace "$work/own" && says err "the $own sequences that extract held out" &&
        says err "up to about 40 % of all" && more=$(counted held_out "$work/own") || return 1
    [ "$more" -gt "$own" ] && perl -e 'exit(abs($ARGV[0] / $ARGV[1] - 0.4) > 0.06)' "$more" "$all" ||
        { echo "    $more of $all are held out, $own before" && return 1; }
    run 0 cache split --held-out 0.4 "$work/own" && run 0 cache split --held-out 0 --replace "$work/own" && says err "stay held out" &&
        exported same "$work/own" && cmp "$work/exported.own" "$work/exported.same" || return 1
    for option in --replace --held-out=0; do
        run 1 cache split --held-out 0 $option "$work/own" && says err "extract itself held out $own sequences" &&
            says err "cannot be taken away" || return 1
    done
}

# extract has nothing to add, and does not go on with a corpus that has grown.
extract_again() {
    run 0 cache split "$work/many" && exported a "$work/many" && make many many && exported b "$work/many" &&
        cmp "$work/exported.a" "$work/exported.b" || return 1
    ids 3 900 >>"$work/many.u16"
    run 1 extract "${common[@]}" --corpus "$work/many.u16" --held-out 0 --out "$work/many" && says err "cache split --held-out 0 --replace" &&
        exported b "$work/many" && cmp "$work/exported.a" "$work/exported.b" || return 1
    run 0 cache split --held-out 0 --replace "$work/many" && make many many && says err "has grown" && run 0 cache verify "$work/many"
}

# A damaged record of such a store is found and made again.
repaired() {
    make hurt one && run 0 cache split --held-out 0.2 "$work/hurt" && exported a "$work/hurt" || return 1
    perl -e 'open F, "+<", $ARGV[0] or die; local $/; $_ = <F>; my $at = -1; $at = index($_, "OFRR", $at + 1) for 1 .. 40;
        seek F, $at + 100, 0; print F "damage"' "$work/hurt/data.mdb"
    run 1 cache verify "$work/hurt" && run 0 cache repair --model "$tiny" "$work/hurt" && exported b "$work/hurt" &&
        cmp "$work/exported.a" "$work/exported.b" && [ -e "$work/hurt/sealed" ]
}

refused() {
    run 2 cache split && run 2 cache split --held-out 0.6 "$work/one" && run 1 cache split "$work/nowhere" || return 1
    head -c 64 "$work/one.u16" >"$work/little.u16" && make little little && run 1 cache split "$work/little" &&
        says err "too few for a split"
}

for test in train_takes_it one_document shards_agree stopped_between replaced of_extract extract_again repaired refused; do
    check $test
done
finish

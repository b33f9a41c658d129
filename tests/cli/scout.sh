#!/usr/bin/env bash
# scout.sh: extract --scout: its heads are those that extract and train make of the same text, in one go, from sums of shards and
# with layers that take turns; what it refuses; that it leaves nothing behind.
. "$(dirname "$0")/lib.sh"
tiny=tests/golden/gguf-llama.gguf # 2 layers, 64 tokens, no tokenizer; 2 ends a text
perl -e 'srand(9); print pack("v*", map { int(rand(8)) * int(rand(8)) } 1 .. 6000)' >"$work/text.u16"
common=(--model "$tiny" --seq-len 16 --corpus "$work/text.u16" --held-out 0.2)

# scores FILE: tap, loss, KL and agreement of every affine head of a scout's JSON
scores() { perl -MJSON::PP -0777 -ne 'printf "%d %.5f %.5f %.5f\n", $_->{tap}, @{$_->{affine}}{qw(loss kl agreement)} for @{decode_json($_)->{heads}}' "$1"; }

# alike A B: the same lines, but for the last digit
alike() {
    paste -d' ' "$1" "$2" | awk '{ n = NF / 2; for (i = 1; i <= n; i++) { d = $i - $(i + n); if (d < 0) d = -d; if (d > 0.00002) bad = 1 } }
        END { exit bad || !NR }' && return 0
    echo "    $1 and $2 differ: $(cat "$1" "$2")"
    return 1
}

whole() {
    run 0 extract --scout "${common[@]}" --held-out-tokens 640 --svg "$work/whole.svg" && says out "--taps" && says out " held-out ones" &&
        says out "100.0 %" && grep -q "<svg" "$work/whole.svg" && run 0 extract --scout "${common[@]}" --held-out-tokens 640 --json &&
        cp "$work/out" "$work/whole.json" && scores "$work/whole.json" >"$work/whole" && [ "$(wc -l <"$work/whole")" = 2 ] &&
        says out '"bridge": null' && says out '"held_out_tokens": 640' && [ -z "$(ls -d "$work"/*.pilot 2>/dev/null)" ]
}

# The ridge heads of a store with exact states, before the first step.
as_train() {
    run 0 extract "${common[@]}" --held-out-tokens 640 --taps 0,1,final --codec raw:f32 --out "$work/store" || return 1
    for tap in 0 1; do
        run 0 train --store "$work/store" --tap $tap --head affine --init ridge --steps 0 --out "$work/run$tap" || return 1
        sed -n 's/.*"held_out_loss": \([0-9.]*\).*"kl": \([0-9.-]*\).*"agreement": \([0-9.]*\).*/'"$tap"' \1 \2 \3/p' \
            "$work/run$tap"/trials/*/metrics.jsonl | tail -1 >>"$work/trained"
    done
    alike "$work/whole" "$work/trained"
}

shards() {
    local i
    for i in 0 1 2; do
        run 0 extract --scout "${common[@]}" --shard $i/3 --out "$work/sums$i" && says out "shard $i of 3" || return 1
    done
    run 0 extract --scout "${common[@]}" --held-out-tokens 640 --json --sums "$work/sums2" "$work/sums0" "$work/sums1" &&
        scores "$work/out" >"$work/sharded" && alike "$work/whole" "$work/sharded" &&
        run 0 extract --scout "${common[@]}" --out "$work/all" --json && run 0 extract --scout "${common[@]}" --held-out-tokens 640 --sums "$work/all" --json &&
        scores "$work/out" >"$work/again" && alike "$work/whole" "$work/again"
}

wrong_sums() {
    run 2 extract --scout "${common[@]}" --sums "$work/sums0" "$work/sums1" && says err "one of 3 shards, but 2 files" &&
        run 2 extract --scout "${common[@]}" --sums "$work/sums0" "$work/sums1" "$work/sums1" && says err "is shard 1, and so is" &&
        run 2 extract --scout --model "$tiny" --seq-len 32 --corpus "$work/text.u16" --held-out 0.2 --sums "$work/all" && says err '"rows" differs' &&
        run 2 extract --scout --model "$tiny" --seq-len 16 --corpus "$work/text.u16" --held-out 0.3 --sums "$work/all" && says err '"held_out" differs' &&
        run 1 extract --scout "${common[@]}" --sums "$tiny.none" && says err "gguf-llama.gguf.none" || return 1
    { head -c -8 "$work/sums1" && printf '\377\377\377\377\377\377\377\377'; } >"$work/odd" # the last sum is not a number
    run 1 extract --scout "${common[@]}" --sums "$work/sums0" "$work/odd" "$work/sums2" && says err "of shard 1 are damaged" || return 1
    sed 's/\.hash/.hush/g' "$work/odd" >"$work/older" # without hashes
    run 1 extract --scout "${common[@]}" --sums "$work/sums0" "$work/older" "$work/sums2" && says err "of shard 1 hold what is not a number" || return 1
    { head -c -2 "$work/sums1" && printf '\001' && tail -c 1 "$work/sums1"; } >"$work/flipped" # some other number
    run 1 extract --scout "${common[@]}" --sums "$work/sums0" "$work/flipped" "$work/sums2" && says err "are damaged (their hash differs)" || return 1
    head -c 3000 "$work/all" >"$work/short"
    run 1 extract --scout "${common[@]}" --sums "$work/short" && says err "short" &&
        run 1 extract --scout "${common[@]}" --sums "$tiny" && says err "gguf-llama.gguf"
}

wrong_usage() {
    run 2 extract --scout "${common[@]}" --taps 1 && says err "every layer" && run 2 extract "${common[@]}" --svg "$work/x.svg" && says err "wanted" &&
        run 2 extract "${common[@]}" --out "$work/x" --svg "$work/x.svg" && says err "is for --scout" &&
        run 2 extract --scout "${common[@]}" --shard 0/2 && says err "makes a file of sums" &&
        run 2 extract --scout "${common[@]}" --sums "$work/all" --out "$work/x" && says err "--sums" &&
        run 2 extract --scout --model "$tiny" --seq-len 16 --corpus "$work/text.u16" --held-out 0 && says err "held-out text" &&
        run 2 extract --scout "${common[@]}" --out "$work/text.u16" && says err "--out" &&
        run 2 extract --scout "${common[@]}" --svg "$tiny" && says err "--svg" && [ ! -e "$work/x" ]
}

# Layers that take turns: the same heads. And of a model that has them, bridges: low in the model they are as good as an affine
# head, and two layers below theirs better.
turns() {
    local least demo=(--model "$model" --seq-len 16 --corpus "$work/demo.txt" --held-out-tokens 64)
    perl -e 'print "The cat number $_ sat on mat number ", $_ * 7 % 13, ".\n" for 1 .. 120' >"$work/demo.txt"
    run 0 extract --scout "${demo[@]}" --dry-run --json && says out '"sum_bytes": 262987472' && says out '"resident": true' &&
        run 2 extract --scout "${demo[@]}" --memory 1M && says err "this model needs at least" || return 1
    least=$(grep -o 'at least [0-9.]* .B' "$work/err" | awk '{ print int($3 * ($4 == "GB" ? 1000 : 1) / 1.048576) + 1 }')
    run 0 extract --scout "${demo[@]}" --json && sed -n '/"heads"/,$p' "$work/out" >"$work/stay" &&
        perl -MJSON::PP -0777 -ne 'my $h = decode_json($_)->{heads}; exit !(@$h == 30 && !$h->[28]{bridge} && $h->[27]{bridge}{kl} < 0.7 * $h->[27]{affine}{kl})' "$work/out" || return 1
    run 0 extract --scout "${demo[@]}" --json --memory "${least}M" && says err "each layer is loaded once" &&
        { sanitized || [ "$(sed -nE 's/^ *"peak_memory": ([0-9]+),$/\1/p' "$work/out")" -le $((least * 1048576)) ]; } && sed -n '/"heads"/,$p' "$work/out" | cmp - "$work/stay"
}

few() {
    head -c 600 "$work/text.u16" >"$work/few.u16"
    run 0 extract --scout --model "$tiny" --seq-len 16 --corpus "$work/few.u16" && says err "are fewer than 16 for each"
}

# A scout that is told to stop keeps nothing, and says so; in its pass over the text, or before.
stopped() {
    local pid status
    perl -e 'srand(2); print pack("v*", map { int(rand(64)) } 1 .. 3000000)' >"$work/long.u16"
    "$build/extract" --scout --model "$tiny" --seq-len 16 --corpus "$work/long.u16" --held-out 0.01 --out "$work/stopped" >"$work/out" 2>"$work/err" </dev/null &
    pid=$!
    until grep -q "^device" "$work/err"; do sleep 0.02; done
    sleep 0.3
    kill -TERM $pid
    wait $pid
    status=$?
    [ $status = 1 ] && says err "the same command begins again" && [ ! -s "$work/out" ] && [ -z "$(ls -d "$work"/stopped* 2>/dev/null)" ]
}

check whole
check as_train
check shards
check wrong_sums
check wrong_usage
check_with_model turns
check few
check stopped
finish

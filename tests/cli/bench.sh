#!/usr/bin/env bash
# bench.sh: `cache bench` on a small store: its figures are those that codecs have by their nature.
. "$(dirname "$0")/lib.sh"
tiny=tests/golden/gguf-llama.gguf # 2 layers, 64 tokens, no tokenizer
ids=$work/ids.u16 held_out=$work/held.u16
perl -e 'srand(5); print pack("v*", map { int(rand(64)) } 1 .. 6000)' | tee "$held_out" >"$ids"
small=(--model "$tiny" --corpus "$ids" --held-out-corpus "$held_out" --held-out-tokens 320 --seq-len 16 --taps 1,final)

wrong_usage() {
    run 2 cache bench && says err "a store is missing" && run 2 cache bench --records 0 x && says err "--records" &&
        run 2 cache bench --codecs raw,zip x && says err "--codecs" && run 2 cache bench a b && says err "one store"
}

# The table names every tap but the target, and every codec.
table() {
    run 0 extract "${small[@]}" --out "$work/store" --codec raw:f32 && run 0 cache bench "$work/store" || return 1
    local text
    for text in 'raw:f32 ' 'lossless ' 'q8 ' 'klt:2 ' 'final ' '2 held-out records of each tap, 16 tokens each'; do
        says out "$text" || return 1
    done
    ! grep -qE '^target|Relative to' "$work/out"
}

# Exact codecs have the size they must have and lose nothing; what is coarser is smaller and loses more.
figures() {
    run 0 cache bench "$work/store" --records 3 --codecs klt:5,klt:3,raw:f32,raw,lossless --json || return 1
    perl -MJSON::PP -0777 -ne '
        my $all = decode_json($_); my %of; my $bad = @{$all->{measures}} != 10 || $all->{records_per_tap} != 3;
        $of{$_->{tap}}{$_->{codec}} = $_ for @{$all->{measures}};
        for my $tap (values %of) {
            my ($fine, $coarse, $exact, $raw, $lossless) = @$tap{"klt:5", "klt:3", "raw:f32", "raw", "lossless"};
            $bad ||= $exact->{bits_per_value} != 33 || $raw->{bits_per_value} != 17; # 64 bytes of header to 512 values
            $bad ||= $exact->{kl} != 0 || $exact->{loss} != 0 || $exact->{parameter_bits} != 0;
            $bad ||= $raw->{kl} != $lossless->{kl} || $raw->{kl} > 1e-4;
            $bad ||= $fine->{bits_per_value} <= $coarse->{bits_per_value} || $fine->{kl} >= $coarse->{kl};
            $bad ||= $fine->{parameter_bits} <= 0 || $fine->{decode_entropy_gbs} <= 0 || $coarse->{kl} <= 0;
        }
        exit $bad' "$work/out" || { cat "$work/out"; return 1; }
}

picture() {
    run 0 cache bench "$work/store" --codecs klt:4,klt:2,q8 --svg "$work/picture.svg" &&
        grep -q '<svg .*xmlns=' "$work/picture.svg" && [ "$(grep -c 'tap final, klt:' "$work/picture.svg")" = 2 ] &&
        [ "$(grep -c '<polyline' "$work/picture.svg")" = 2 ] && grep -q '</svg>' "$work/picture.svg" &&
        run 1 cache bench "$work/store" --codecs raw:f32 --svg "$work/none.svg" && says err "nothing to draw" &&
        [ ! -e "$work/none.svg" ]
}

# A store that has lost something says what its figures are relative to.
lossy_store() {
    run 0 extract "${small[@]}" --out "$work/lossy" --codec raw,final=klt:4 && run 0 cache bench "$work/lossy" --codecs raw &&
        says out "Relative to what the store has: tap 1 was kept as raw; final was kept as klt:4"
}

check wrong_usage
check table
check figures
check picture
check lossy_store
finish

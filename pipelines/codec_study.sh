#!/usr/bin/env bash
# codec_study.sh: what training on coded states costs. Compares heads fitted to states that went through a codec with heads fitted to
# exact states; both are scored on exact held-out states.
#
#   build/extract --model MODEL --corpus CORPUS --codec raw:f32 --taps 24,final --out STORE
#   pipelines/codec_study.sh STORE OUT
#
# Prints a table: the codec, its bits per value over all taps of the store, and the held-out KL to the full model of two heads at tap
# 24 (or TAP): a ridge regression, and a head trained from there. Behind each KL is its difference from exact states. TAP, CODECS, STEPS
# (of the trained head) and SEQUENCES (per step) may be set. The same command again goes on where it stopped.
set -euo pipefail
[ $# = 2 ] || { sed -n '2,14s/^# \{0,1\}//p' "$0"; exit 2; }
top=$(cd "$(dirname "$0")/.." && pwd)
bin=${BUILD:-$top/build} exact=$1 out=$2
tap=${TAP:-24}
mkdir -p "$out"

codecs=(exact ${CODECS:-lossless q8 klt:4 klt:3 klt:2})
for codec in "${codecs[@]:1}"; do
    [ ! -e "$out/$codec/sealed" ] || continue
    rm -rf "${out:?}/$codec"
    "$bin/tests/bench/coded_store" "$exact" "$codec" "$out/$codec" >"$out/$codec.bits"
done

# fit NAME STEPS: an affine head on every codec's states, from a ridge regression on
fit() {
    local codec store
    for codec in "${codecs[@]}"; do
        [ "$codec" = exact ] && store=$exact || store=$out/$codec
        "$bin/train" --store "$store" --out "$out/$codec.$1" --tap "$tap" --head affine --init ridge --rate 1e-4 \
            --sequences "${SEQUENCES:-4}" --steps "$2" >"$out/$codec.$1.txt"
    done
}
fit ridge 0
fit trained "${STEPS:-32}"

# kl RUN: the divergence in the only row of its leaderboard
kl() { awk -F'\t' 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == "kl") column = i } NR == 2 { print $column }' "$1/leaderboard.tsv"; }
bits() { [ "$1" = exact ] && echo 32 || awk -F'\t' '{ sum += $3 } END { printf "%.2f", sum / NR }' "$out/$1.bits"; }
echo "| codec | bits per value | ridge: KL | trained: KL |"
echo "|---|---|---|---|"
for codec in "${codecs[@]}"; do
    ridge=$(kl "$out/$codec.ridge") trained=$(kl "$out/$codec.trained")
    awk -v codec="$codec" -v bits="$(bits "$codec")" -v r="$ridge" -v t="$trained" \
        -v r0="$(kl "$out/exact.ridge")" -v t0="$(kl "$out/exact.trained")" \
        'BEGIN { printf "| `%s` | %s | %.4f (%+.4f) | %.4f (%+.4f) |\n", codec, bits, r, r - r0, t, t - t0 }'
done

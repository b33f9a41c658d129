#!/usr/bin/env bash
# coding.sh: what coding and writing six taps adds to extraction: the same layers computed with one tap, and
# with six, by codec. Rounds of all in turn; figures are medians. "share" is what the threads that code and
# write were at work of all processors' time. TOKENS, ROUNDS and CODECS may be set.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=${BUILD:-build}
model=${OFFRAMP_TEST_MODEL:-}
tokens=${TOKENS:-8192} rounds=${ROUNDS:-5} codecs=${CODECS:-raw lossless klt:4}
if [ -z "$model" ]; then
    echo "coding: no demo model (OFFRAMP_TEST_MODEL), nothing measured"
    exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# extract NAME TAPS CODEC: adds microseconds per token, loading left out, and seconds of encoding and writing
extract() {
    rm -rf "$work/store"
    "$build/extract" --model "$model" --corpus common kernels extract train generate --held-out 0 --seq-len 512 \
        --tokens "$tokens" --taps "$2" --no-target --codec "$3" --json --out "$work/store" 2>"$work/err" >"$work/json" ||
        { cat "$work/err"; exit 1; }
    awk -F'[:,]' '
        /"computed_tokens"/ { tokens = $2 } /^  "seconds"/ { seconds = $2 } /"loading_seconds"/ { loading = $2 }
        /"encode"/ { part = 1 } /"write"/ { part = 2 }
        /"busy"/ { if (part) busy[part] = $2; part = 0 }
        END {
            print (seconds - loading) / tokens * 1e6, busy[1] + 0, busy[2] + 0,
                (busy[1] + busy[2]) / (seconds - loading) / processors
        }' processors="$(nproc)" "$work/json" >>"$work/$1"
}

# median NAME COLUMN
median() { awk -v c="$2" '{ print $c }' "$work/$1" | sort -g | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

for _ in $(seq "$rounds"); do
    extract one final raw
    for codec in $codecs; do extract "$codec" 6,12,18,24,28,final "$codec"; done
done
echo "extraction of $tokens tokens, six taps against one (raw), median of $rounds"
printf '  %-10s %10s %8s %12s %12s %8s\n' codec us/token ratio "encoding s" "writing s" share
for name in one $codecs; do
    printf '  %-10s %10.0f %8.3f %12.2f %12.2f %8.3f\n' "$name" "$(median "$name" 1)" \
        "$(awk -v a="$(median "$name" 1)" -v b="$(median one 1)" 'BEGIN { print a / b }')" \
        "$(median "$name" 2)" "$(median "$name" 3)" "$(median "$name" 4)"
done

#!/usr/bin/env bash
# extract.sh: extraction against what its products alone take at oneDNN's best rate (tests/bench/kernels),
# with 6 taps coded and written; bf16 against f32; and what the target costs on top. Rounds of all in turn;
# figures are medians.
# The text is this repository's sources. TOKENS and ROUNDS may be set.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=${BUILD:-build}
model=${OFFRAMP_TEST_MODEL:-}
tokens=${TOKENS:-12288} rounds=${ROUNDS:-3}
if [ -z "$model" ]; then
    echo "extract: no demo model (OFFRAMP_TEST_MODEL), nothing measured"
    exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# extract MATH [OPTION]: microseconds per token of the taps' run, and of all that and loading the weights
extract() {
    local math=$1
    shift
    rm -rf "$work/store"
    "$build/extract" --model "$model" --corpus common kernels extract train generate --held-out 0 --seq-len 512 \
        --tokens "$tokens" --taps 6,12,18,24,28,final --math "$math" --json --out "$work/store" "$@" >"$work/run.json"
    awk '
        /"computed_tokens"/ { tokens = $2 + 0 }
        /"seconds"/ { seconds = $2 + 0 }
        /"loading_seconds"/ { loading = $2 + 0 }
        END { printf "%.3f %.3f\n", (seconds - loading) / tokens * 1e6, seconds / tokens * 1e6 }' "$work/run.json"
}

# median FILE COLUMN
median() { awk -v c="$2" '{ print $c }' "$1" | sort -g | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

for _ in $(seq "$rounds"); do
    # of the layers' products, f32 then bf16, microseconds per token and layer
    "$build/tests/bench/kernels" 0 "$model" | awk '/whole layer/ { print $4 }' | paste -sd ' ' >>"$work/products"
    extract f32 --no-target >>"$work/f32"
    extract bf16 --no-target >>"$work/bf16"
    extract f32 >>"$work/target"
done

layers=30 # all of the demo model's: final is the last tap
awk -v layers=$layers -v f32="$(median "$work/f32" 1)" -v f32_all="$(median "$work/f32" 2)" \
    -v bf16="$(median "$work/bf16" 1)" -v bf16_all="$(median "$work/bf16" 2)" \
    -v f32_products="$(median "$work/products" 1)" -v bf16_products="$(median "$work/products" 2)" \
    -v target="$(median "$work/target" 1)" -v tokens="$tokens" -v rounds="$rounds" '
    function line(name, time, all, products) {
        printf "  %-6s %12.0f %14.0f %10.1f %12.2f %12.0f\n", name, time, layers * products, 1e6 / time,
            time / (layers * products), 1e6 / all
    }
    BEGIN {
        printf "extraction, %d tokens, T = 512, 6 lossless taps, median of %d\n", tokens, rounds
        printf "  %-6s %12s %14s %10s %12s %12s\n", "math", "us/token", "products alone", "tokens/s", "ratio",
            "with loading"
        line("f32", f32, f32_all, f32_products)
        line("bf16", bf16, bf16_all, bf16_products)
        printf "  bf16 is %.2f times as fast as f32\n", f32 / bf16
        printf "  with the target (two vocabulary products) it takes %.2f times as long\n", target / f32
    }'

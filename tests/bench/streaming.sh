#!/usr/bin/env bash
# streaming.sh: extraction from a model whose layers are loaded one after another (--memory) against all of
# them resident. Rounds of all in turn; figures are medians. The model is made here, of random weights: SHAPE
# (layers, hidden, intermediate, heads, KV heads, head size, vocabulary) may be set, so may TOKENS and ROUNDS.
# "from disk" has the system forget the model's file again and again meanwhile.
#
# The default is small enough for two processors; the layers of a larger model take longer to load and to
# compute in the same proportion.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=${BUILD:-build}
shape=${SHAPE:-12 512 2048 8 4 64 4096} tokens=${TOKENS:-6144} rounds=${ROUNDS:-3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# shellcheck disable=SC2086
"$build/tests/bench/make_weights" "$work/model" $shape
perl -e 'srand(3); print pack("V*", map { int(rand($ARGV[1])) } 1 .. $ARGV[0] + 1)' "$tokens" "${shape##* }" >"$work/ids.u32"

# extract ARGUMENT...
extract() {
    rm -rf "$work/store"
    "$build/extract" --model "$work/model" --corpus "$work/ids.u32" --end-of-text 0 --held-out 0 --tokens "$tokens" \
        --taps 1,final --no-target --out "$work/store" --json "$@" 2>"$work/err" || { cat "$work/err" >&2; return 1; }
}

forget() { # until it is killed
    while :; do
        for file in "$work"/model/*.safetensors; do dd if="$file" iflag=nocache count=0 status=none; done
        sleep 0.1
    done
}

# note NAME <JSON: tokens per second, peak memory, tokens per super-batch, seconds loading and waited
note() {
    awk -F'[:,]' '
        /"tokens_per_second"/ { speed = $2 } /"peak_memory"/ { peak = $2 } /"super_batch"/ { batch = $2 }
        /"weights_load"/ { load = $2 } /"weights_waited"/ { waited = $2 }
        END { print speed + 0, peak + 0, batch + 0, load + 0, waited + 0 }' >>"$work/$1"
}

# median NAME COLUMN
median() { awk -v c="$2" '{ print $c }' "$work/$1" | sort -g | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

extract --memory 1M 2>/dev/null || true
memory=$(($(sed -nE 's/.*at least ([0-9]+)(\.[0-9]+)? MB.*/\1/p' "$work/err") + 50)) # room for the super-batch
for _ in $(seq "$rounds"); do
    extract | note resident
    extract --memory "${memory}M" | note streaming
    forget &
    forgetting=$!
    extract --memory "${memory}M" | note disk
    kill $forgetting
    wait $forgetting || true
done

echo "extraction, layers of $shape, $tokens tokens, T = 512, --memory ${memory}M, median of $rounds"
printf '  %-12s %10s %8s %12s %12s %10s %10s\n' weights tokens/s ratio "peak memory" super-batch "loading s" "waited s"
for name in resident streaming disk; do
    printf '  %-12s %10.1f %8.3f %9.0f MB %12d %10.2f %10.2f\n' "$name" "$(median $name 1)" \
        "$(awk -v a="$(median $name 1)" -v b="$(median resident 1)" 'BEGIN { print a / b }')" \
        "$(awk -v b="$(median $name 2)" 'BEGIN { print b / 1e6 }')" "$(median $name 3)" "$(median $name 4)" "$(median $name 5)"
done

#!/usr/bin/env bash
# all.sh: everything about the CUDA backend that only a device can show, in at most ten minutes, with one
# table at the end. Runs from a bundle or a build folder; wants bash, coreutils and awk; no network, no root.
#
#   tests/gpu/all.sh             OFFRAMP_TEST_MODEL=demo.gguf adds the demo model's lines
#
#   1  tests/ops, golden models and trials in groups on the device
#   2  the demo model: states of every tap against the cpu's (1e-2 in bf16, 1e-4 in f32), losses of a sweep
#   3  compute-sanitizer, memcheck and racecheck, over tests/ops
#   4  ceilings measured here: copy bandwidth, upload, cuBLAS
#   5  models of random weights in the shapes of Llama 7B, 8B and 70B: extraction, resident and streamed,
#      sweeps of 16 trials, decoding
#
# Every line says ok, FAILED, missed (a rate below its aim) or not run, and why; docs/gpu.md keeps the figures.
set -uo pipefail
cd "$(dirname "$0")/../.."
if [ -x bin/extract ]; then build=bin; else build=${BUILD:-build}; fi
export BUILD=$build OFFRAMP_CUDA_LIBRARY=${OFFRAMP_CUDA_LIBRARY:-$PWD/$build/libofframp_cuda.so}
model=${OFFRAMP_TEST_MODEL:-}
deadline=$((SECONDS + 600))
work=$(mktemp -d "${TMPDIR:-/tmp}/offramp-gpu.XXXXXX")
trap 'rm -rf "$work"' EXIT
table=$work/table failed=0
: >"$table"

line() { # line NAME RESULT FIGURE
    printf '%-44s %-8s %s\n' "$1" "$2" "$3" >>"$table"
    printf '%-44s %-8s %s\n' "$1" "$2" "$3" >&2
    case $2 in FAILED | missed) failed=1 ;; esac
}

# timed SECONDS COMMAND...: its output in $work/log, within what is left of the ten minutes
timed() {
    local most=$1 left=$((deadline - SECONDS))
    shift
    [ "$left" -gt 5 ] || { echo "the ten minutes are over" >"$work/log"; return 125; }
    timeout $((most < left ? most : left)) "$@" >"$work/log" 2>&1
}
last_line() { tail -n 1 "$work/log" | cut -c1-100; }

# value NAME FILE: a number of flat or pretty JSON
value() { sed -nE "s/.*\"$1\": *([0-9.e+-]+).*/\1/p" "$2" | tail -n 1; }
calc() { awk "BEGIN { printf \"%.${2:-2}f\", $1 }"; }

# aim NAME VALUE CEILING SHARE UNIT: ok when VALUE reaches that share of what was measured here
aim() {
    if ! awk "BEGIN { exit !(${2:-0} > 0 && ${3:-0} > 0) }"; then
        line "$1" FAILED "${2:-nothing} of ${3:-nothing} measured: $(last_line)"
    else
        line "$1" "$(awk "BEGIN { print ($2 >= $3 * $4) ? \"ok\" : \"missed\" }")" \
            "$(calc "$2" 1) $5, $(calc "100 * $2 / $3" 0) % of $(calc "$3" 1) measured (aim: $(calc "100 * $4" 0) %)"
    fi
}

# ---- 0: is there one ----
missing=$(OFFRAMP_TEST_DEVICE=cuda "$build/tests/ops/optimizer" match_ref 2>&1 | sed -nE 's/^ *without cuda: //p' | head -1)
if [ -n "$missing" ]; then
    echo "all.sh: there is no CUDA device to test: $missing"
    echo "all.sh: nothing was run; see docs/gpu.md for what is wanted"
    exit 1
fi

# ---- 1: ops and golden models ----
for program in ops/rows ops/products ops/optimizer ops/attention ops/vocab golden/model golden/extract "unit/trial groups" "unit/engine several"; do
    # shellcheck disable=SC2086 # a program and the name of its tests
    if OFFRAMP_TEST_DEVICE=cuda timed 60 "$build"/tests/$program; then
        line "$program" ok "$(last_line)"
    else
        grep -v '^ok' "$work/log" | head -20 >&2
        line "$program" FAILED "$(last_line)"
    fi
done

# ---- 2: the demo model against the cpu ----
demo_store() { # demo_store NAME DEVICE MATH
    timed 120 "$build/extract" --model "$model" --corpus README.md --seq-len 256 --held-out-tokens 256 --tokens 2048 \
        --taps 6,12.mid,18,final --codec raw:f32 --device "$2" --math "$3" --out "$work/$1"
}
demo_losses() { # demo_losses NAME STORE DEVICE MATH
    timed 60 "$build/train" --store "$work/$2" --sweep "$work/demo.yaml" --out "$work/$1.run" --device "$3" --math "$4" &&
        for trial in "$work/$1.run"/trials/*/; do
            echo "$(basename "$trial") $(value held_out_loss "$trial/metrics.jsonl")"
        done >"$work/$1.losses"
}
if [ -z "$model" ]; then
    line "demo model" "not run" "OFFRAMP_TEST_MODEL names no model"
else
    printf 'seed: 1\npasses: 1\ngrid:\n  tap: [6, 18]\n  head: [affine, norm]\n  loss: [distillation, cross-entropy]\n' >"$work/demo.yaml"
    demo_store cpu cpu f32 && demo_losses cpu cpu cpu f32 || line "demo model on the cpu" FAILED "$(last_line)"
    for math in f32:1e-4 bf16:1e-2; do
        name=${math%:*} tolerance=${math#*:}
        if demo_store "$name" cuda "$name" && timed 60 "$build/tests/gpu/compare" "$work/$name" "$work/cpu" "$tolerance"; then
            line "demo model, states of 4 taps, $name" ok "$(last_line), at most $tolerance"
        else
            line "demo model, states of 4 taps, $name" FAILED "$(last_line), at most $tolerance"
        fi
        worst=
        demo_losses "$name" cpu cuda "$name" && worst=$(join "$work/$name.losses" "$work/cpu.losses" | awk '
            { d = ($2 - $3) / $3; d = d < 0 ? -d : d; if (d > worst) worst = d } END { if (NR == 8) print worst + 0 }')
        if [ -n "$worst" ] && awk "BEGIN { exit !($worst <= $tolerance) }"; then
            line "demo model, losses of 8 trials, $name" ok "worst $worst, at most $tolerance"
        else
            line "demo model, losses of 8 trials, $name" FAILED "worst ${worst:-unknown}, at most $tolerance"
        fi
    done
fi

# ---- 3: compute-sanitizer ----
if ! command -v compute-sanitizer >/dev/null; then
    line "compute-sanitizer" "not run" "it is not on the PATH"
else
    for tool in memcheck racecheck; do
        for program in rows products optimizer attention vocab coding; do
            if OFFRAMP_TEST_DEVICE=cuda OFFRAMP_TEST_BATCH=9 timed 60 compute-sanitizer --tool $tool --error-exitcode 9 \
                "$build/tests/ops/$program" match_ref; then
                line "$tool, ops/$program" ok "$(grep -m1 -E 'ERROR SUMMARY|RACECHECK SUMMARY' "$work/log" | sed 's/^=* *//')"
            else
                line "$tool, ops/$program" FAILED "$(grep -m1 -E '=========.*(Invalid|hazard|ERROR|Error)' "$work/log" || last_line)"
            fi
        done
    done
fi

# ---- 4: ceilings ----
copy= bf16=
if timed 60 "$build/tests/gpu/ceilings"; then
    while read -r name figure; do
        line "ceiling: $name" ok "$figure"
        case $name in copy) copy=${figure% *} ;; bf16) bf16=${figure% *} ;; esac
    done <"$work/log"
else
    line "ceilings" FAILED "$(last_line)"
fi

# ---- 5: models of random weights ----
# Ids below 16,448, which every vocabulary has; 0 ends a document, of 4,096 tokens on average.
tokens() { head -c $((2 * $1)) /dev/urandom | LC_ALL=C tr '\100-\177\200-\277\300-\377' '\000-\077\000-\077\000-\077' >"$work/tokens.bin"; }

# extraction NAME ARGUMENT...: TFLOP/s of the layers' products, taps coded and written; $work/NAME.json, or nothing
extraction() {
    local name=$1 layers=$2 values=$3
    shift 3
    rm -rf "$work/store"
    timed 100 "$build/extract" --model "$work/model" --corpus "$work/tokens.bin" --token-type u16 --end-of-text 0 \
        --seq-len 2048 --held-out-tokens 2048 --device cuda --codec lossless --no-target --json --out "$work/store" "$@" || return 1
    sed -n '/^{/,$p' "$work/log" >"$work/$name.json"
    calc "$(value computed_tokens "$work/$name.json") / ($(value seconds "$work/$name.json") - $(value loading_seconds \
        "$work/$name.json")) * 2 * $layers * $values * 1e-12" 1
}

# shape NAME LAYERS HIDDEN INTERMEDIATE HEADS KV VOCAB: a model of that shape, as many layers as time allows
shape() {
    local name=$1 layers=$2 hidden=$3 intermediate=$4 heads=$5 kv=$6 vocab=$7
    local values=$((hidden * (2 * heads * 128 + 2 * kv * 128 + 3 * intermediate))) rate streamed half=$((layers / 2))
    rm -rf "$work/model"
    if ! timed 60 "$build/tests/bench/make_weights" "$work/model" "$layers" "$hidden" "$intermediate" "$heads" "$kv" 128 "$vocab"; then
        line "$name" "not run" "$(last_line)"
        return
    fi
    tokens 131072
    rate=$(extraction "$name" "$layers" "$values" --taps "1,$half,$half.mid,final")
    aim "$name: extraction, $layers layers, 4 taps" "$rate" "$bf16" 0.60 TFLOP/s
    streamed=$(extraction "$name-streamed" "$layers" "$values" --taps "1,$half,$half.mid,final" \
        --memory "$((values * 2 * layers / 1000000 + 2000))M")
    aim "$name: the same, streamed under --memory" "$streamed" "$rate" 0.90 TFLOP/s
}

shape 7B 8 4096 11008 32 32 32000
shape 70B 4 8192 28672 64 8 128256
shape 8B 8 4096 14336 32 8 128256

# sixteen SEQUENCES VOCABULARY: 16 tied affine trials on the 8B shape's store of 512 rows a sequence: tokens and trials a
# second. The trials' seconds add up to the step's.
sixteen() {
    {
        printf 'seed: 1\nsteps: 8\nsequences: %s\nevaluate: 0\ngrid:\n  tap: [1, 4]\n  head: [affine]\n  vocabulary: [%s]\n' "$1" "$2"
        printf '  loss: [cross-entropy]\n  rate: [1e-4, 2e-4, 3e-4, 4e-4, 5e-4, 6e-4, 7e-4, 8e-4]\n'
    } >"$work/sixteen.yaml"
    timed 60 "$build/train" --store "$work/store" --sweep "$work/sixteen.yaml" --out "$work/sweep$1-$2" --device cuda &&
        sed -nE 's/^\{"step": 8,.*"loss".*"seconds": ([0-9.e+-]+), "shared.*/\1/p' "$work/sweep$1-$2"/trials/*/metrics.jsonl |
        awk -v tokens="$((512 * $1))" '{ sum += $1 } END { print (sum > 0 ? NR * tokens / sum : 0) }'
}
# sweep NAME SEQUENCES: TFLOP/s of a token and trial's two products with the vocabulary, and two of the head.
sweep() {
    local rate
    if rate=$(sixteen "$2" all); then
        aim "$1" "$(calc "${rate:-0} * (4 * 128256 * 4096 + 4 * 4096 * 4096) * 1e-12" 1)" "$bf16" 0.65 TFLOP/s
    else
        line "$1" FAILED "$(last_line)"
    fi
}
# subset NAME SEQUENCES: tokens and trials a second over a subset of the vocabulary beside ten times those over all of it.
subset() {
    local all some
    if all=$(sixteen "$2" all) && some=$(sixteen "$2" subset); then
        aim "$1" "$some" "$(calc "10 * $all" 1)" 1 tokens/s
    else
        line "$1" FAILED "$(last_line)"
    fi
}
rm -rf "$work/store"
if timed 60 "$build/extract" --model "$work/model" --corpus "$work/tokens.bin" --token-type u16 --end-of-text 0 --seq-len 512 \
    --held-out-tokens 2048 --tokens 32768 --taps 1,4,final --device cuda --no-target --out "$work/store"; then
    sweep "8B: 16 tied trials, 512 tokens, 8 together" 1
    sweep "8B: 16 tied trials, 2,048 tokens, 2 together" 4
    sweep "8B: 16 tied trials, 8,192 tokens, one by one" 16
else
    line "8B: a sweep of 16 tied trials" FAILED "$(last_line)"
fi
rm -rf "$work"/store "$work"/sweep*
if timed 60 "$build/extract" --model "$work/model" --corpus "$work/tokens.bin" --token-type u16 --end-of-text 0 --seq-len 512 \
    --held-out-tokens 2048 --tokens 16384 --taps 1,4,final --device cuda --out "$work/store"; then
    subset "8B: 16 trials over a subset, 2,048 tokens" 4
else
    line "8B: 16 trials over a subset" FAILED "$(last_line)"
fi
if OFFRAMP_TEST_DEVICE=cuda timed 60 "$build/tests/bench/generate" "$work/model"; then
    aim "8B: decoding, one sequence" "$(sed -nE 's/.*a token reads .*: ([0-9.]+) GB\/s.*/\1/p' "$work/log")" "$copy" 0.70 GB/s
else
    line "8B: decoding, one sequence" FAILED "$(last_line)"
fi

# Two processes share the device: two shards at once.
shard() { "$build/extract" --model "$work/model" --corpus "$work/tokens.bin" --token-type u16 --end-of-text 0 --seq-len 2048 \
    --held-out-tokens 2048 --device cuda --no-target --taps 4 --tokens 32768 --shard "$1/2" --out "$work/shard$1" >"$work/shard$1.log" 2>&1; }
shard 0 &
first=$!
shard 1
second=$?
if wait $first && [ $second = 0 ]; then line "two processes, a shard each" ok ""; else line "two processes, a shard each" FAILED "$(tail -n 1 "$work/shard0.log" "$work/shard1.log" | tail -n 1)"; fi

echo
echo "$(date -u +%F), $(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null | head -1), $SECONDS s"
cat "$table"
exit $failed

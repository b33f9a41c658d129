#!/usr/bin/env bash
# golden.sh: whole models and programs on the emulated device (emulator.h): golden models against
# transformers, an extraction read back from its store, and a sweep against the cpu's.
set -uo pipefail
cd "$(dirname "$0")/../.."
build=${BUILD:-build}
export OFFRAMP_CUDA_LIBRARY=$build/libofframp_cuda_emulated.so OFFRAMP_EMULATOR_SEED=${SEED:-1}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0
check() { # check NAME COMMAND...
    local name=$1
    shift
    if "$@" >"$work/log" 2>&1; then
        echo "ok      $name"
        passed=$((passed + 1))
    else
        echo "FAILED  $name"
        tail -n 15 "$work/log"
        failed=$((failed + 1))
    fi
}

# Losses of a run, trial by trial: the last line of each trial's metrics.
losses() {
    local trial
    for trial in "$1"/trials/*/; do
        printf '%s %s\n' "$(basename "$trial")" \
            "$(tail -n 1 "$trial/metrics.jsonl" | sed -E 's/.*"held_out_loss": *([0-9.e+-]+).*/\1/')"
    done
}

# sweep NAME DEVICE MATH: a run of every kind of head and loss
sweep() {
    "$build/train" --store "$work/store" --sweep "$work/sweep.yaml" --out "$work/$1" --device "$2" --math "$3" &&
        losses "$work/$1" >"$work/$1.losses"
}

# same_losses TOLERANCE A B: both runs have the same trials, and losses that differ by that share at most
same_losses() {
    [ -s "$work/$2.losses" ] && join "$work/$2.losses" "$work/$3.losses" | awk -v tolerance="$1" -v trials="$(wc -l <"$work/$3.losses")" '
        { d = ($2 - $3) / $3; if (!(d * d <= tolerance * tolerance)) { print; bad = 1 } }
        END { exit bad || NR != trials || NR == 0 }'
}

for model in golden_llama golden_qwen3 golden_gguf_qwen2; do
    check "model $model" env OFFRAMP_TEST_DEVICE=cuda "$build/tests/golden/model" $model
done
check "extract" env OFFRAMP_TEST_DEVICE=cuda "$build/tests/golden/extract"
check "what it makes of states for codecs" env OFFRAMP_TEST_DEVICE=cuda "$build/tests/unit/transform" transformed
check "the pilot's states" env OFFRAMP_TEST_DEVICE=cuda "$build/tests/unit/kept" kept_states_are_all_there_are
check "groups of trials" env OFFRAMP_TEST_DEVICE=cuda "$build/tests/unit/trial" groups
check "what an engine takes" env OFFRAMP_TEST_DEVICE=cuda "$build/tests/unit/engine" bytes
check "rows of several sequences" env OFFRAMP_TEST_DEVICE=cuda "$build/tests/unit/engine" several
check "forks and what was truncated" env OFFRAMP_TEST_DEVICE=cuda "$build/tests/unit/engine" sequence_
check "pieces of a batch" env OFFRAMP_TEST_DEVICE=cuda "$build/tests/unit/trial" pieces

cat >"$work/sweep.yaml" <<'END'
seed: 4
passes: 1
grid:
  tap: [1]
  head: [affine]
  init: [ridge]
  loss: [distillation, cross-entropy]
trials:
  - {tap: 2, head: norm, loss: cross-entropy}
  - {tap: 2.mid, head: mlp}
  - {tap: 2, head: affine, output: untied, rate: 3e-3}
END
check "a store to train on" "$build/tests/bench/make_store" "$work/store"
check "train on the cpu" sweep cpu cpu f32
check "train in f32" sweep f32 cuda f32
check "the device's memory is told" grep -q '"device_memory": [1-9]' "$work/f32/run.json"
check "losses in f32 are the cpu's" same_losses 1e-4 f32 cpu
check "train in bf16" sweep bf16 cuda bf16
check "losses in bf16 are the cpu's" same_losses 1e-2 bf16 cpu
check "train in f32 again" sweep again cuda f32
check "the same bytes again" diff -r "$work/f32/trials" "$work/again/trials" --exclude=metrics.jsonl --exclude=config.json

# ---- memory, and what a device's failure says ----
# OFFRAMP_EMULATOR_MEMORY is the largest allocation that succeeds.
printf '\1\0\2\0\3\0%.0s' {1..100} >"$work/tokens.bin"
extract() { # extract NAME MODEL ARGUMENT...
    local name=$1 model=$2
    shift 2
    "$build/extract" --model "$model" --corpus "$work/tokens.bin" --token-type u16 --end-of-text 9 --held-out 0 --seq-len 20 \
        --taps 1,final --codec raw:f32 --no-target --math f32 --out "$work/$name" "$@" 2>&1 | tee "$work/$name.log"
}
not() { ! "$@"; }
same_states() { "$build/tests/gpu/compare" "$work/$1" "$work/$2" 1e-5; }
says() { [ "$(grep -c -- "$2" "$work/$1.log")" = 1 ] || { cat "$work/$1.log"; return 1; }; }

check "a small model of random weights" "$build/tests/bench/make_weights" "$work/small" 3 64 192 1 1 128 1000
check "extract on the cpu" extract whole "$work/small" --device cpu
check "extract with all the memory" extract all "$work/small" --device cuda
check "the cpu's states" same_states all whole
check "what the device was at work with" says all "^  device .*[0-9] computing, .*[0-9] taking in, .*[0-9] giving out"
check "what it was bound by" says all "^  bound by "
printf 'seed: 4\nsteps: 2\ngrid:\n  tap: [1, 2, 3]\n  head: [affine]\n' >"$work/sweep.yaml"
three() { sweep "$1" cuda "$2" 2>&1 | tee "$work/$1.log" && [ "$(wc -l <"$work/$1.losses")" = 3 ]; }
check "three trials" three three f32
export OFFRAMP_EMULATOR_MEMORY=30000
check "three trials with room for one at a time" three one f32
check "which it says once" says one "device memory does not hold 3 trials together; they are computed by"
check "the same bytes" diff -r "$work/three/trials" "$work/one/trials" --exclude=metrics.jsonl --exclude=config.json
export OFFRAMP_EMULATOR_MEMORY=10000
check "three trials with room for pieces of a batch" three pieces f32
check "which it says once, too" says pieces "device memory does not hold a trial's 64 rows together; they are computed by 32 at a time"
check "the same losses" same_losses 1e-5 pieces three
export OFFRAMP_EMULATOR_MEMORY=7000
check "three trials without room for a piece" not three none f32
check "the numbers of which it says" says none "train: trial 1-.*: with only 32 rows of the batch at a time: .*out of device memory: [0-9]* bytes .*, [0-9]* of [0-9]* free"
marked() { cat "$work/$1"/trials/*/metrics.jsonl | grep -c '"failed"'; }
check "no trial is marked" test "$(marked none)" = 0
unset OFFRAMP_EMULATOR_MEMORY
check "the same command goes on" three none f32
check "to the same bytes" diff -r "$work/three/trials" "$work/none/trials" --exclude=metrics.jsonl
check "a store of few values" "$build/tests/bench/make_store" "$work/narrow" hidden=8
printf 'seed: 4\nsteps: 2\ntrials:\n  - {tap: 1, head: norm}\n  - {tap: 2.mid, head: mlp}\n' >"$work/narrow.yaml"
export OFFRAMP_EMULATOR_MEMORY=9000
check "a trial that is too large beside one that is not" \
    "$build/train" --store "$work/narrow" --sweep "$work/narrow.yaml" --out "$work/large" --device cuda --math f32
check "which alone is marked" test "$(marked large)" = 1
unset OFFRAMP_EMULATOR_MEMORY
for kernel in adam_values describe_rows; do
    export OFFRAMP_EMULATOR_FAULT=$kernel
    check "three trials on a device that fails in $kernel" not three lost f32
    check "marks none" test "$(marked lost)" = 0
    unset OFFRAMP_EMULATOR_FAULT
done
check "the same command goes on where it is whole" three lost f32
check "to the same bytes" diff -r "$work/three/trials" "$work/lost/trials" --exclude=metrics.jsonl
export OFFRAMP_EMULATOR_MEMORY=1000000
check "extract with room for fewer sequences" extract fewer "$work/small" --device cuda
check "which it says once" says fewer "device memory does not hold calls of"
check "the cpu's states, too" same_states fewer whole
export OFFRAMP_EMULATOR_MEMORY=100000
check "extract without room for a weight" not extract unplaced "$work/small" --device cuda
check "the numbers of which it says" says unplaced "weight \[1000, 64\].*cannot be put on the device: out of memory; [0-9]* of [0-9]* bytes are free"
unset OFFRAMP_EMULATOR_MEMORY

if [ -n "${OFFRAMP_TEST_MODEL:-}" ]; then
    generate() { "$build/generate" --model "$OFFRAMP_TEST_MODEL" --prompt "In Python" --device cuda 2>&1 | tee "$work/generate.log"; }
    export OFFRAMP_EMULATOR_TOTAL=100000000
    check "generate without room for the model" not generate
    check "what takes it, and what takes less" says generate "a weight \[.* out of memory.*\. The device had 8.[0-9]* GB of memory free. The weights take [0-9]* MB. Keys and values of [0-9]* positions take [0-9.]* MB. .* Give fewer --tokens or a shorter prompt, or --device cpu"
    unset OFFRAMP_EMULATOR_TOTAL
fi

# ---- records of states that are rounded on the device: the bytes of those that the host rounds ----
coded() { # coded NAME CODEC: all taps, and the target
    "$build/extract" --model "$work/small" --corpus "$work/tokens.bin" --token-type u16 --end-of-text 9 --held-out 0 --seq-len 20 \
        --taps 1,final --codec "$2" --math f32 --device cuda --out "$work/$1"
}
sizes() { "$build/cache" info --json "$1" | sed '/"recoded"/,/\]/d' | grep -E '"(name|codec|bytes)"'; }
same_records() {
    local tap
    "$build/cache" recode --codec "$1" --out "$work/$1.host" "$work/exact" && diff <(sizes "$work/$1") <(sizes "$work/$1.host") || return 1
    for tap in 1 final target; do
        "$build/cache" export --tap $tap --format npy --out "$work/x" "$work/$1" &&
            "$build/cache" export --tap $tap --format npy --out "$work/y" "$work/$1.host" && diff -r "$work/x" "$work/y" || return 1
        rm -rf "$work/x" "$work/y"
    done
}
check "extract in f32" coded exact raw:f32
for codec in raw lossless q8; do
    check "extract in $codec" coded "$codec" "$codec"
    check "the host's records in $codec" same_records "$codec"
done

# ---- records whose integers the device makes: off by what their step allows, half a step for the worst value ----
words() { # words NAME CODEC: of tokens that differ, so that states fill their space
    "$build/extract" --model "$work/small" --corpus "$work/words.bin" --token-type u16 --end-of-text 9 --held-out 0 --seq-len 20 \
        --taps 1,final --codec "$2" --math f32 --device cuda --out "$work/$1" 2>&1 | tee "$work/$1.log"
}
# step / sqrt(12) of a token's size: the steps chosen are 0.230 and 0.182
klt_error() { "$build/tests/gpu/compare" "$work/klt" "$work/words" "$1"; }
printf '%b' "$(awk 'BEGIN { x = 1; while (i++ < 600) { x = x * 16807 % 2147483647; t = 10 + x % 980; printf "\\0%o\\0%o", t % 256, t / 256 } }')" \
    >"$work/words.bin"
check "extract words in f32" words words raw:f32
check "extract words in klt:4" words klt klt:4
check "the states within a step" klt_error 0.067
check "and not nearer than one" not klt_error 0.065
# one bit in the payload of a record of final, and of target
flip() {
    perl -e 'open my $f, "+<:raw", $ARGV[0] or die; local $/; my $b = <$f>;
        for my $layer (3, 4) { $b =~ /OFRR.{14}\0\0\Q${\pack "V", $layer}\E/s or die; seek $f, $-[0] + 120, 0; print $f chr(ord(substr $b, $-[0] + 120, 1) ^ 4) }' "$1/data.mdb"
}
repair() { # repair NAME: of a damaged copy
    rm -rf "$work/damaged" && cp -r "$work/$1" "$work/damaged" && flip "$work/damaged" && not "$build/cache" verify "$work/damaged" &&
        "$build/cache" repair --model "$work/small" "$work/damaged" && "$build/cache" verify "$work/damaged"
}
repaired() {
    local tap
    repair "$1" || return 1
    for tap in 1 final target; do
        rm -rf "$work/x" "$work/y"
        "$build/cache" export --tap $tap --format npy --out "$work/x" "$work/$1" &&
            "$build/cache" export --tap $tap --format npy --out "$work/y" "$work/damaged" && diff -r "$work/x" "$work/y" || return 1
    done
}
check "repair klt:4" repaired klt
export OFFRAMP_EMULATOR_FAULT=quantise_rows
check "klt:4 without the device's integers" not words unquantised klt:4
check "repair without them" not repair klt
export OFFRAMP_EMULATOR_FAULT=split_planes
check "lossless without the device's planes" not words unsplit lossless
unset OFFRAMP_EMULATOR_FAULT

# ---- layers that take turns in the device's memory ----
check "a model of many layers" "$build/tests/bench/make_weights" "$work/deep" 48 256 512 2 2 128 1000
# peak NAME: the most bytes of the device's memory that an extraction took
peak() { cat "$work/$1.peak"; }
export OFFRAMP_EMULATOR_PEAK=$work/resident.peak
check "extract with all of it on the device" extract resident "$work/deep" --device cuda --tokens 20
OFFRAMP_EMULATOR_PEAK=$work/refused.peak
check "extract with too little --memory" not extract refused "$work/deep" --device cuda --tokens 20 --memory 1M
least=$(sed -nE 's/.*needs at least ([0-9]+) MB.*/\1/p' "$work/refused.log")
OFFRAMP_EMULATOR_PEAK=$work/streamed.peak
check "extract layer by layer with the least it names" extract streamed "$work/deep" --device cuda --tokens 20 --memory $((least + 1))M
unset OFFRAMP_EMULATOR_PEAK
# Of that, 200 MB are the process's.
check "the device's part of it is enough" [ "$(peak streamed)" -le $(((least + 1 - 200) * 1000000)) ]
check "all of it on the device takes more" [ "$(peak resident)" -gt $(((least + 1 - 200) * 1000000)) ]
check "which it says once" says streamed "two layers' at a time"
check "the same states" "$build/tests/gpu/compare" "$work/streamed" "$work/resident" 0
export OFFRAMP_EMULATOR_TOTAL=20000000
check "extract with less room than was free" extract taken "$work/deep" --device cuda --tokens 20
check "layers take turns, which it says once" says taken "the weights of 48 layers take .* do not fit in memory. Each layer is loaded once"
check "for calls that fit" says taken "device memory does not hold calls of 204 sequences. They have"
check "in the summary, too" says taken "two layers' at a time"
check "the same states again" "$build/tests/gpu/compare" "$work/taken" "$work/resident" 1e-5
export OFFRAMP_EMULATOR_TOTAL=1000000
check "extract without room for two layers" not extract none2 "$work/deep" --device cuda --tokens 20
check "the weight of which it names" says none2 "with one sequence per call: .*weight \[.* cannot be put on the device: out of memory; [0-9]* of [0-9]* bytes are free"
unset OFFRAMP_EMULATOR_TOTAL

export OFFRAMP_EMULATOR_FAULT=swiglu_values
check "extract with a fault" not extract fault "$work/small" --device cuda
check "the ops of which it names" says fault "illegal memory access.*by one of the ops up to [a-z_]* \[[0-9]*, [0-9]*\]"
unset OFFRAMP_EMULATOR_FAULT

echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" = 0 ]

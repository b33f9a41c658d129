#!/usr/bin/env bash
# options.sh: what all programs' command lines have in common: help, version, one name in every message, one form of
# defaults, and that output which is lost is a failure.
. "$(dirname "$0")/lib.sh"
commands=(extract train generate cache "cache info" "cache verify" "cache repair" "cache merge" "cache recode"
    "cache split" "cache export" "cache bench")

# each TEST: TEST COMMAND... for every command
each() {
    local command
    for command in "${commands[@]}"; do
        # shellcheck disable=SC2086
        $1 $command || { echo "    $command"; return 1; }
    done
}

one_help() {
    run 0 "$@" --help && mv "$work/out" "$work/help" && [ ! -s "$work/err" ] && grep -q "^Usage: $1" "$work/help" &&
        grep -q -- "-h, --help" "$work/help" && grep -q -- "-V, --version" "$work/help" && grep -q -- "--usage" "$work/help" &&
        run 0 "$@" -h && cmp "$work/out" "$work/help" && run 0 "$@" '-?' && cmp "$work/out" "$work/help" &&
        run 0 "$@" --usage && says out "Usage: $1" && run 0 "$@" --version && says out "offramp $* 0." && run 0 "$@" -V && says out "offramp $*"
}
help_of_each() { each one_help; }

# A default is "(default: X)": a word or a number alone in brackets at the end of an option's text is none.
one_default() {
    ! "$build/$1" "${@:2}" --help | tr '\n' ' ' | tr -s ' ' | grep -oE '[^ ]+ \((-?[0-9.]+|auto|all|lossless|text|safetensors|one per processor|f32; [^)]*)[;)]'
}
defaults_of_each() { each one_default; }

one_full() {
    local option status
    for option in --help --usage --version -h; do
        "$build/$1" "${@:2}" $option >/dev/full 2>"$work/err"
        status=$?
        [ "$status" = 1 ] && says err "$*: standard output: not everything could be written" || { echo "    $* $option: $status"; return 1; }
    done
}
lost_help() { each one_full; }

# Whoever starts a program may have closed its standard descriptors: no file of the program's gets their numbers.
one_closed() {
    local status
    "$build/$1" "${@:2}" --help >&- 2>"$work/err"
    status=$?
    [ $status = 1 ] && says err "$*: standard output is closed" || { echo "    $* >&-: $status"; return 1; }
}
closed_help() { each one_closed; }

# closed STATUS PROGRAM ARGUMENT...: with each of them closed, alone and all at once; STATUS is that without stdout
closed() {
    local lost=$1 wrong=0
    shift
    at_end() { [ "$2" = "$3" ] || { echo "    $1: ended with $2, not $3"; wrong=1; }; }
    timeout 60 "$build/$1" "${@:2}" >"$work/out" 2>"$work/err" <&-
    at_end "$* <&-" $? 0
    timeout 60 "$build/$1" "${@:2}" >&- 2>"$work/err"
    at_end "$* >&-" $? "$lost"
    timeout 60 "$build/$1" "${@:2}" >"$work/out" 2>&-
    at_end "$* 2>&-" $? 0
    timeout 60 "$build/$1" "${@:2}" <&- >&- 2>&-
    at_end "$* <&- >&- 2>&-" $? "$lost"
    return $wrong
}
closed_descriptors() {
    local ids=$work/ids.u16 which small
    perl -e 'srand(3); print pack("v*", map { int(rand(64)) } 1 .. 2000)' >"$ids"
    small=(extract --model tests/golden/gguf-llama.gguf --corpus "$ids" --held-out 0.2 --seq-len 16 --taps 1,final)
    timeout 60 "$build/extract" "${small[@]:1}" --out "$work/closed" <&- >&- 2>&-
    [ $? = 1 ] && run 0 cache verify "$work/closed" || return 1
    closed 1 extract "${small[@]:1}" --out "$work/closed" && run 0 cache verify "$work/closed" &&
        closed 1 cache info "$work/closed" && closed 1 cache verify "$work/closed" && closed 1 cache export --tap 1 --out "$work/e" "$work/closed" &&
        closed 1 cache recode --codec raw --out "$work/recoded" "$work/closed" && run 0 cache verify "$work/recoded" &&
        closed 1 train --store "$work/closed" --tap 1 --head norm --steps 2 --out "$work/run"
}

# A prompt that cannot be read is not waited for.
closed_prompt() {
    timeout 60 "$build/generate" --model tests/golden/gguf-llama.gguf >"$work/out" 2>"$work/err" <&-
    [ $? = 1 ] && says err "generate: "
}
closed_generate() {
    closed 1 generate --model "$model" --prompt x --tokens 1 && ! timeout 60 "$build/generate" --model "$model" 2>"$work/err" <&- &&
        says err "standard input"
}

# Installed under another name, a program has that name in every message.
one_renamed() {
    local program=offramp-$1
    shift
    "$work/$program" "$@" --nonsense >"$work/out" 2>"$work/err"
    [ $? = 2 ] && says err "$program" || return 1
    ! grep -vE "^(Try \`)?$program|^information\.$" "$work/err"
}
renamed() {
    local program
    for program in extract train generate cache; do ln -s "$(realpath "$build/$program")" "$work/offramp-$program"; done
    each one_renamed || return 1
    "$work/offramp-extract" --model "$work/none" --corpus "$0" --out "$work/s" 2>"$work/err"
    says err "offramp-extract: --model" || return 1
    "$work/offramp-train" --store "$work/none" --tap 1 --head norm --out "$work/r" 2>"$work/err"
    says err "offramp-train: $work/none" || return 1
    "$work/offramp-generate" --model "$work/none" --prompt x 2>"$work/err"
    says err "offramp-generate: $work/none" || return 1
    "$work/offramp-cache" info "$work/none" 2>"$work/err"
    says err "offramp-cache info: $work/none"
}

# A message that named its program itself would give it two names.
one_name() { ! grep -nE '"(extract|train|generate|cache( [a-z]+)?): ' {extract,train,generate,cache}/*.c; }

# Options may stand before what they are for, or behind it.
any_order() {
    run 1 cache export "$work/none" --tap 1 --out "$work/x" && says err "cache export: $work/none" &&
        run 1 cache export --tap 1 "$work/none" --out "$work/x" && says err "cache export: $work/none" &&
        run 1 cache info "$work/none" --json && says err "cache info: $work/none" &&
        run 1 cache recode "$work/none" --codec raw --out "$work/x" && says err "cache recode: $work/none"
}

# The options of the device are the same in all programs, values and help.
device_options() {
    local program wrong='"5000" is not in 1 .. 4096'
    for program in extract train generate; do
        run 2 $program --threads 5000 && says err "--threads: $wrong" && run 2 $program --math f64 && says err '"f64" is none of: f32 tf32 bf16' &&
            run 2 $program --device toaster && says err '"toaster" is none of: auto cpu cuda ref' || return 1
        "$build/$program" --help | grep -A 2 -E -- '--(device|math|threads)=' >"$work/$program.help"
        cmp <(grep -- -- "$work/$program.help" | grep -E 'device|math|threads') <(grep -E -- '--(device|math|threads)=' "$work/extract.help") || return 1
    done
    run 2 cache recode --threads 5000 x && says err "--threads: $wrong" && run 2 cache repair --threads 5000 x && says err "$wrong" &&
        run 2 cache repair --device toaster x && says err "none of: auto cpu cuda ref"
}

for test in device_options help_of_each defaults_of_each lost_help closed_help closed_descriptors closed_prompt renamed one_name any_order; do
    check $test
done
check_with_model closed_generate
finish

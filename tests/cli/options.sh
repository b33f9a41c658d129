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

for test in help_of_each defaults_of_each lost_help renamed one_name any_order; do
    check $test
done
finish

#!/usr/bin/env bash
# generate.sh: the command line of generate: what it refuses, and what it prints with the demo model.
set -uo pipefail
cd "$(dirname "$0")/../.."
generate=${BUILD:-build}/generate
model=${OFFRAMP_TEST_MODEL:-}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0 skipped=0

# run STATUS ARGUMENT...: its output goes to $work/out and $work/err
run() {
    local expected=$1 status
    shift
    "$generate" "$@" >"$work/out" 2>"$work/err" </dev/null
    status=$?
    [ "$status" = "$expected" ] && return 0
    echo "    generate $* ended with $status, not $expected: $(head -c 300 "$work/err")"
    return 1
}

# says FILE TEXT: the output has it
says() {
    grep -qF -- "$2" "$work/$1" && return 0
    echo "    \"$2\" is not in the $1 of the last command: $(head -c 300 "$work/$1")"
    return 1
}

check() {
    if "$1"; then
        passed=$((passed + 1))
        echo "    ok $1"
    else
        failed=$((failed + 1))
        echo "    FAILED $1"
    fi
}

check_with_model() {
    if [ -n "$model" ]; then
        check "$1"
    else
        skipped=$((skipped + 1))
        echo "    skipped: $1: no demo model"
    fi
}

# The golden model of 64 tokens with a tokenizer of letters, whose post-processor puts <s> (60) before a text.
letters_model() {
    cp -r tests/golden/llama "$1"
    perl -e 'my @t = ("a" .. "z", "A" .. "Z", 0 .. 7); my $v = join ", ", map { "\"$t[$_]\": $_" } 0 .. $#t;
        my $a = join ", ", map { my $i = 60 + $_; qq({"id": $i, "content": "<$_>", "special": true}) } 0 .. 3;
        print qq({"added_tokens": [$a], "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false},
        "decoder": {"type": "ByteLevel"}, "model": {"type": "BPE", "vocab": {$v}, "merges": []},
        "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<0>", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}}], "special_tokens": {"<0>": {"id": "<0>", "ids": [60], "tokens": ["<0>"]}}}})' \
        >"$1/tokenizer.json"
}

# Every id that the files list ends the text; a damaged list is warned of.
ends_and_beginning() {
    local letters=$work/letters id
    letters_model "$letters"
    run 0 --model "$letters" --prompt abc --tokens 5 --json && cp "$work/out" "$work/free" &&
        says out '"prompt_tokens": 4' && grep -A 1 '"before_prompt"' "$work/out" | grep -q 60 &&
        says err "with <0> (60) before the text, by the post_processor of tokenizer.json" &&
        [ "$(grep -c '"left_at"' "$work/out")" = 5 ] || return 1
    id=$(sed -nE 's/^ *"id": ([0-9]+),$/\1/p' "$work/out" | head -n 1)
    printf '{"eos_token_id": [63, %s, 64], "max_new_tokens": 1e400}' "$id" >"$letters/generation_config.json"
    run 0 --model "$letters" --prompt abc --tokens 5 --json && [ "$(grep -c '"left_at"' "$work/out")" = 1 ] &&
        says out '"text": ""' &&
        says err 'warning: generation_config.json: "eos_token_id" holds 64, which is not an id of the tokenizer (0 .. 63)' ||
        return 1
    printf '{"eos_token_id": [%s],\n}' "$id" >"$letters/generation_config.json"
    run 0 --model "$letters" --prompt abc --tokens 5 --json && says err "warning: " &&
        says err "generation_config.json: line 2, " && [ "$(grep -c '"left_at"' "$work/out")" = 5 ] &&
        printf 'abc\n' | "$generate" --model "$letters" --tokens 5 --json 2>"$work/err" >"$work/out" &&
        says out '"prompt_tokens": 4'
}

# The byte 0 as a token is a character of the JSON.
token_of_nul() {
    local letters=$work/nul id
    letters_model "$letters"
    run 0 --model "$letters" --prompt abc --tokens 1 --json || return 1
    id=$(sed -nE 's/^ *"id": ([0-9]+),$/\1/p' "$work/out" | head -n 1)
    sed -i -E "s/\"[^\"]+\": $id([,}])/\"\\\\u0100\": $id\1/" "$letters/tokenizer.json"
    run 0 --model "$letters" --prompt abc --tokens 1 --json && says out '"text": "\u0000"'
}

# A policy for a model that does not exist, with an empty head file (whose hash is XXH3's of nothing).
write_policy() {
    mkdir -p "$1"
    : >"$1/12.safetensors"
    cat >"$1/policy.json" <<EOF
{"version": 2, "model": "00000000deadbeef", "layers": 30,
 "exits": [{"tap": "12",
            "head": {"kind": "norm", "output": "tied", "file": "12.safetensors", "hash": "2d06800538d394c2"},
            "evidence": {"kind": "confidence"}, "rule": {"threshold": 0.9}}],
 "costs": {"layer": 1, "head": 0.1, "output": 8}, "table": []}
EOF
}

help_and_version() {
    run 0 --help && says out --threshold && says out "--exit=RULE" && run 0 --version && says out "offramp generate"
}

wrong_usage() {
    run 2 && says err "--model is missing" &&
        run 2 --nonsense &&
        run 2 --model m word && says err "\"word\" is too much" &&
        run 2 --model m --tokens 0 && says err "--tokens: \"0\"" &&
        run 2 --model m --tokens 5x && says err "--tokens: \"5x\" is not a whole number" &&
        run 2 --model m --temperature -1 && says err --temperature &&
        run 2 --model m --top-p 1.5 && says err --top-p &&
        run 2 --model m --top-k -1 && says err --top-k &&
        run 2 --model m --math f64 && says err "\"f64\" is none of: f32 tf32 bf16" &&
        run 2 --model m --device toaster && says err "none of: auto cpu cuda ref" &&
        run 2 --model m --exit gate && says err "none of: off confidence" &&
        run 2 --model m --exit confidence && says err "needs the exits of a --policy" &&
        run 2 --model m --threshold 0.5 && says err "needs the exits of a --policy" &&
        run 2 --model m --policy p --exit off --threshold 0.5 && says err "--exit not off" &&
        run 2 --model m --prompt a --prompt-file b && says err "give one of them" &&
        run 2 --model m --show --json && says err "give one of them" &&
        [ ! -s "$work/out" ]
}

missing_files() {
    run 1 --model "$work/none.gguf" --prompt a && says err "none.gguf" && says err "No such file" &&
        run 1 --model "$work/none.gguf" --prompt-file "$work/none.txt" && says err "--prompt-file" &&
        says err none.txt
}

missing_policy() {
    mkdir -p "$work/empty"
    run 1 --model "$model" --prompt a --policy "$work/empty" && says err "policy.json" && says err "No such file"
}

# Both fingerprints are told.
policy_of_another_model() {
    write_policy "$work/other"
    run 2 --model "$model" --prompt a --policy "$work/other" && says err 00000000deadbeef &&
        says err "but this one is" && grep -qE 'but this one is [0-9a-f]{16}' "$work/err" &&
        run 0 --model "$model" --prompt a --policy "$work/other" --exit off --tokens 1
}

# A policy without exits is the full model, and says why.
policy_without_exits() {
    local model_is
    run 2 --model "$model" --prompt a --policy "$work/other" || return 1
    model_is=$(sed -nE 's/.*but this one is ([0-9a-f]{16}).*/\1/p' "$work/err")
    mkdir -p "$work/none"
    cat >"$work/none/policy.json" <<EOF
{"version": 2, "model": "$model_is", "layers": 30, "exits": [], "tried": ["24"], "agreement": 0.95,
 "costs": {"layer": 1, "head": 0.1, "output": 8},
 "table": [{"threshold": 0.9, "exit_rates": [0.1], "agreement": 0.97, "depth": 29.4, "speedup": 0.93}]}
EOF
    run 0 --model "$model" --prompt "The capital of France is" --tokens 8 && cp "$work/out" "$work/full" &&
        run 0 --model "$model" --prompt "The capital of France is" --tokens 8 --policy "$work/none" &&
        cmp "$work/out" "$work/full" &&
        says err "generate: the policy has no exits: none was predicted to be faster than the full model (best: 0.93 times its speed at 24 with threshold 0.9); the full model runs" &&
        [ "$(grep -c "no exits" "$work/err")" = 1 ] &&
        run 0 --model "$model" --prompt Once --tokens 3 --policy "$work/none" --show && says out "left at" && says out top &&
        run 0 --model "$model" --prompt Once --tokens 3 --policy "$work/none" --json --threshold 0.5 &&
        [ "$(grep -c '"left_at": "top"' "$work/out")" = 3 ] &&
        run 0 --model "$model" --prompt Once --tokens 3 --policy "$work/none" --exit off && ! grep -q "no exits" "$work/err"
}

plain_text() {
    run 0 --model "$model" --prompt "The capital of France is" --tokens 8 && says out Paris &&
        says err "8 tokens" && says err "depth" &&
        cp "$work/out" "$work/first" &&
        printf 'The capital of France is' >"$work/prompt" &&
        run 0 --model "$model" --prompt-file "$work/prompt" --tokens 8 && cmp "$work/out" "$work/first" &&
        run 0 --model "$model" --prompt-file "$work/prompt" --tokens 8 --threads 1 && cmp "$work/out" "$work/first" &&
        "$generate" --model "$model" --tokens 8 <"$work/prompt" >"$work/out" 2>"$work/err" &&
        cmp "$work/out" "$work/first"
}

early_exits() {
    "$BUILD/tests/bench/make_policy" "$model" "$work/policy" 24:0.5 >"$work/log" 2>&1 ||
        { cat "$work/log"; return 1; }
    run 0 --model "$model" --policy "$work/policy" --prompt "The capital of France is" --tokens 12 --show &&
        says out "left at" && says out "##" && says err "left at    24: " &&
        [ "$(grep -c '#' "$work/out")" = 12 ] &&
        run 0 --model "$model" --prompt "The capital of France is" --tokens 8 && cp "$work/out" "$work/first" &&
        run 0 --model "$model" --policy "$work/policy" --prompt "The capital of France is" --tokens 8 \
            --threshold 1.1 && cmp "$work/out" "$work/first" && says err "24: 0, top: 8"
}

# Copied from the model, a block at the tap before the last layer, and a bridge at the tap that it leads to, are the rest of
# the model: what leaves there is what the full model says. And tokens leave the same however many threads there are.
exits_with_attention() {
    run 0 --model "$model" --prompt "The capital of France is" --tokens 12 && cp "$work/out" "$work/first" || return 1
    for exit in 29:0:block 28:0:bridge; do
        "$BUILD/tests/bench/make_policy" "$model" "$work/${exit##*:}" "$exit" >"$work/log" 2>&1 ||
            { cat "$work/log"; return 1; }
        run 0 --model "$model" --policy "$work/${exit##*:}" --prompt "The capital of France is" --tokens 12 &&
            cmp "$work/out" "$work/first" && says err "left at    ${exit%%:*}: 11, top: 1" || return 1
    done
    "$BUILD/tests/bench/make_policy" "$model" "$work/both" 12:0.5 20:0.2:block 26:0.4:bridge >"$work/log" 2>&1 ||
        { cat "$work/log"; return 1; }
    run 0 --model "$model" --policy "$work/both" --prompt "The capital of France is" --tokens 24 --json &&
        cp "$work/out" "$work/first" && says out '"left_at": "20"' && says out '"left_at": "26"' &&
        run 0 --model "$model" --policy "$work/both" --prompt "The capital of France is" --tokens 24 --json \
            --threads 1 && grep -v second "$work/out" >"$work/one" && grep -v second "$work/first" | cmp - "$work/one"
}

json() {
    run 0 --model "$model" --prompt "The capital of France is" --tokens 8 --json &&
        says out '"prompt_tokens": 5' && says out '"left_at": "top"' && says out Paris
}

sampling() {
    run 0 --model "$model" --prompt Once --tokens 12 --temperature 1 --top-p 0.9 --seed 5 && cp "$work/out" "$work/first" &&
        run 0 --model "$model" --prompt Once --tokens 12 --temperature 1 --top-p 0.9 --seed 5 && cmp "$work/out" "$work/first" &&
        run 0 --model "$model" --prompt Once --tokens 12 --temperature 1 --top-p 0.9 --seed 6 && ! cmp -s "$work/out" "$work/first" &&
        run 0 --model "$model" --prompt Once --tokens 12 && cp "$work/out" "$work/first" &&
        run 0 --model "$model" --prompt Once --tokens 12 --temperature 1 --top-k 1 --seed 6 && cmp "$work/out" "$work/first"
}

empty_prompt() {
    run 0 --model "$model" --prompt "" --tokens 2
}

long_prompt() {
    yes word | head -n 9000 >"$work/long"
    run 1 --model "$model" --prompt-file "$work/long" && says err "shorten it"
}

# A reader that went away, and a disk that is full.
closed_output() {
    local status
    "$generate" --model "$model" --prompt Once --tokens 4 2>"$work/err" >/dev/full </dev/null
    status=$?
    [ "$status" = 1 ] && says err "No space left" || return 1
    { "$generate" --model "$model" --prompt Once --tokens 64 2>"$work/err" </dev/null; echo $? >"$work/status"; } | true
    [ "$(cat "$work/status")" = 1 ] && says err "Broken pipe"
    "$generate" --model "$model" --prompt Once --tokens 2 2>"$work/err" >&- </dev/null
    [ $? = 1 ]
}

check help_and_version
check wrong_usage
check missing_files
check ends_and_beginning
check token_of_nul
check_with_model missing_policy
check_with_model policy_of_another_model
check_with_model policy_without_exits
check_with_model plain_text
check_with_model early_exits
check_with_model exits_with_attention
check_with_model json
check_with_model sampling
check_with_model empty_prompt
check_with_model long_prompt
check_with_model closed_output
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]

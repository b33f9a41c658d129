#!/usr/bin/env bash
# extract.sh: the command line of extract: what it refuses, what it prints, and that the same command
# goes on while a changed one does not.
. "$(dirname "$0")/lib.sh"
tiny=tests/golden/gguf-llama.gguf # 2 layers, 64 tokens, no tokenizer
ids=$work/ids.u16 held_out=$work/held.u16
perl -e 'srand(3); print pack("v*", map { int(rand(64)) } 1 .. 4000)' | tee "$held_out" >"$ids"
small=(--model "$tiny" --corpus "$ids" --held-out-corpus "$held_out" --held-out-tokens 200 --seq-len 16 --taps 1,1.mid,final)

help_and_version() {
    run 0 extract --help && says out "--corpus=PATH..." && says out "The same command again goes on" &&
        run 0 extract --version && says out "offramp extract"
}

wrong_usage() {
    local required=(--model m --out o --corpus c)
    run 2 extract && says err "--model, --corpus and --out are wanted" &&
        run 2 extract --nonsense &&
        run 2 extract "${required[@]}" --force word && says err 'unexpected argument "word"' &&
        run 2 extract "${required[@]}" --tokens 5x && says err "--tokens: \"5x\" is not a size" &&
        run 2 extract "${required[@]}" --tokens 100 && says err "less than one sequence of 512 tokens" &&
        run 2 extract "${required[@]}" --held-out-tokens 100 && says err "--held-out-tokens: is less" &&
        run 2 extract "${required[@]}" --seq-len 8 && says err "--seq-len: \"8\" is not in 16" &&
        run 2 extract "${required[@]}" --held-out 1 && says err "--held-out: \"1\" is not in" &&
        run 2 extract "${required[@]}" --held-out 0.1 --held-out-corpus d && says err "give one" &&
        run 2 extract "${required[@]}" --codec zip && says err "--codec" && says err lossless &&
        run 2 extract "${required[@]}" --token-type i8 && says err '"i8" is none of: u16 u32' &&
        run 2 extract "${required[@]}" --math f64 && says err '--math: "f64" is none of: f32 tf32 bf16' &&
        run 2 extract "${required[@]}" --device toaster && says err '--device: "toaster" is none of: auto cpu cuda ref' &&
        run 2 extract "${required[@]}" --threads 0 && says err --threads &&
        run 2 extract "${required[@]}" --memory much && says err --memory &&
        for option in model out corpus held-out-corpus pilot pilot-out; do
            run 2 extract "${required[@]}" "--$option" "" && says err "--$option: the path is empty" || return 1
        done &&
        run 2 extract --model m --out o --corpus c "" && says err "--corpus: the path is empty" &&
        [ ! -s "$work/out" ]
}

missing_files() {
    run 1 extract --model "$tiny" --corpus "$work/none" --out "$work/s" && says err "--corpus: $work/none: No such file" &&
        run 1 extract --model "$work/none.gguf" --corpus "$ids" --out "$work/s" && says err "--model" &&
        says err "none.gguf" && [ ! -e "$work/s" ]
}

unfit_for_the_model() {
    run 2 extract "${small[@]}" --out "$work/s" --taps 3 && says err "--taps" &&
        run 2 extract "${small[@]}" --out "$work/s" --taps 1,2,final && says err "final is named twice" &&
        run 2 extract "${small[@]}" --out "$work/s" --taps 1,,2 && says err "--taps" &&
        run 2 extract "${small[@]}" --out "$work/s" --held-out-tokens 4096 --seq-len 4096 && says err "positions the model was made for" &&
        run 2 extract "${small[@]}" --out "$work/s" --end-of-text 64 && says err "outside the model's vocabulary of 64" &&
        [ ! -e "$work/s" ]
}

# A text needs a tokenizer; the error says what does not.
no_tokenizer() {
    echo "some text" >"$work/text"
    run 1 extract --model "$tiny" --corpus "$work/text" --seq-len 32 --out "$work/s" && says err "tokenizer" && says err "*.u16"
}

token_outside_the_vocabulary() {
    perl -e 'print pack("v*", 1, 2, 99)' >"$work/bad.u16"
    run 1 extract --model "$tiny" --corpus "$work/bad.u16" --seq-len 32 --out "$work/bad" && says err "bad.u16: byte 4: token id 99"
}

too_little_text() {
    head -c 20 "$ids" >"$work/short.u16"
    run 1 extract --model "$tiny" --corpus "$work/short.u16" --held-out 0 --seq-len 32 --out "$work/short" &&
        says err "do not fill one sequence of 32 tokens"
}

summary() {
    run 0 extract "${small[@]}" --out "$work/store" && says out "training and 12 held-out sequences of 16 tokens" &&
        says out "1.mid" && says out "final" && says out "tokens/s" && says out "encode" && says out "peak memory" &&
        ! grep -v "^device: " "$work/err"
}

# The finished store's command again: nothing is computed, the summary is the same.
same_command_again() {
    run 0 extract "${small[@]}" --out "$work/store" --json && says out '"computed_tokens": 0' &&
        says out '"held_out": 12' && says out '"name": "1.mid"'
}

# refused TEXT OPTION...: the store of `summary` with other options
refused() {
    local text=$1
    shift
    run 2 extract "${small[@]}" --out "$work/store" "$@" && says err "$work/store: was made with another $text"
}

changed_options() {
    refused "--seq-len: 16; this command has 32" --seq-len 32 &&
        refused "--taps, --no-target or --codec: 1.mid lossless, 1 lossless, final lossless, target lossless; this command has 1 lossless" --taps 1 &&
        refused "--taps, --no-target or --codec" --no-target && says err "final lossless, target lossless; this command has" &&
        says err "final lossless: give" && refused "--taps, --no-target or --codec" --codec raw && says err "this command has 1.mid raw" &&
        refused "--tokens: none; this command has 320" --tokens 320 &&
        refused "--held-out-tokens: 200; this command has 300" --held-out-tokens 300 &&
        refused "--end-of-text" --end-of-text 5 &&
        refused "--device, --math or the libraries (numerics)" --device ref && says err "this command has ref" &&
        refused "--model: gguf-llama.gguf, " --model tests/golden/llama && says err "this command has llama, " &&
        cp "$tiny" "$work/renamed.gguf" && run 0 extract "${small[@]}" --out "$work/store" --model "$work/renamed.gguf" &&
        run 0 extract "${small[@]}" --out "$work/store" --threads 1 --memory 4G --force
}

changed_file_of_the_same_size() {
    cp "$ids" "$work/edited.u16"
    run 0 extract --model "$tiny" --corpus "$work/edited.u16" --held-out 0 --seq-len 16 --taps 1 --out "$work/edit" &&
        printf x | dd of="$work/edited.u16" bs=1 seek=4000 conv=notrunc status=none &&
        run 1 extract --model "$tiny" --corpus "$work/edited.u16" --held-out 0 --seq-len 16 --taps 1 --out "$work/edit" &&
        says err "--corpus (fingerprint of the files)"
}

full_output() {
    "$build/extract" "${small[@]}" --out "$work/store" >/dev/full 2>"$work/err" </dev/null
    [ $? = 1 ] && says err "No space left"
}

# Texts of every kind with the demo model; the default taps.
texts() {
    mkdir -p "$work/texts"
    for i in 1 2 3 4; do seq "$i" 7 2000 | sed 's/^/The number is /' >"$work/texts/$i.txt"; done
    perl -e 'print "{\"body\": \"Document $_ has words, caf\\u00e9s and lines\\nof its own.\"}\n" for 1 .. 60' >"$work/lines.jsonl"
    run 0 extract --model "$model" --corpus "$work/texts" "$work/lines.jsonl" --field body --held-out 0.2 \
        --seq-len 64 --tokens 256 --held-out-tokens 64 --out "$work/texts.store" &&
        says out "4 training and 1 held-out sequences of 64 tokens" && says out "  7 " && says out "  22 " &&
        says out final &&
        printf '{"body": 1}\n' >>"$work/lines.jsonl" &&
        run 1 extract --model "$model" --corpus "$work/lines.jsonl" --field body --held-out 0 --seq-len 16 \
            --taps 1 --out "$work/bad.store" && says err "lines.jsonl: line 61: \"body\" is not a string" &&
        cp "$work/texts/1.txt" "$work/plain.txt" && head -n 60 "$work/lines.jsonl" >"$work/lines.jl" &&
        run 0 extract --model "$model" --corpus "$work/plain.txt" "$work/lines.jl" --field body --held-out 0 --seq-len 16 \
            --taps 1 --tokens 16 --out "$work/jl.store" &&
        says err "warning: $work/lines.jl: looks like JSON lines but is read as text: name it .jsonl" &&
        ln -s plain.txt "$work/link.txt" && ln "$work/plain.txt" "$work/hard.txt" &&
        run 0 extract --model "$model" --corpus "$work/plain.txt" "$work/link.txt" "$work/hard.txt" --held-out 0 \
            --seq-len 16 --taps 1 --tokens 16 --out "$work/twice.store" &&
        says err "are one file, whose text is taken twice; files taken again: 2" && says err "warning: $work/" &&
        printf 'caf\351\n' >"$work/latin.txt" &&
        run 1 extract --model "$model" --corpus "$work/latin.txt" --taps 1 --out "$work/latin.store" &&
        says err "latin.txt: byte 3: is not UTF-8"
}

# The golden model with a tokenizer of letters whose post-processor puts <s> (60) before a text.
letters_model() {
    cp -r tests/golden/llama "$work/letters"
    perl -e 'my @t = ("a" .. "z"); my $v = join ", ", map { "\"$t[$_]\": $_" } 0 .. $#t;
        print qq({"added_tokens": [{"id": 60, "content": "<s>", "special": true}, {"id": 61, "content": "</s>", "special": true}],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false}, "decoder": {"type": "ByteLevel"},
        "model": {"type": "BPE", "vocab": {$v}, "merges": []},
        "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}}], "special_tokens": {"<s>": {"id": "<s>", "ids": [60], "tokens": ["<s>"]}}}})' \
        >"$work/letters/tokenizer.json"
    printf '{"model_max_length": 1000000000000000019884624838656}' >"$work/letters/tokenizer_config.json"
}

# Every text begins as the model was taught; what was done is said, and kept.
begin_of_text() {
    letters_model
    local letters=(--model "$work/letters" --corpus "$work/letters.jsonl" --held-out 0 --seq-len 16 --taps 1 --codec raw)
    printf '{"text": "abc"}\n{"text": "defg"}\n{"text": ""}\n{"text": "<s>hi"}\n{"text": "jklm"}\n' >"$work/letters.jsonl"
    run 0 extract "${letters[@]}" --out "$work/begin" --dry-run &&
        says out "before each text <s> (60), by the post_processor of tokenizer.json; between documents </s> (61)" &&
        run 0 extract "${letters[@]}" --out "$work/begin" && says out "before each text <s> (60)" &&
        run 0 cache info "$work/begin" && says out "before each text the ids 60, between documents 61" &&
        run 0 cache export "$work/begin" --tap 1 --out "$work/begin.npy" --format npy || return 1
    local ids
    ids=$(od -An -v -t d4 -w68 -j 128 "$work/begin.npy/tokens.npy" | tr -s ' ' | head -n 1)
    [ "$ids" = " 60 0 1 2 61 60 3 4 5 6 61 60 7 8 61 60 9" ] || { echo "    the ids are $ids"; return 1; }
    printf '{"bos_token": "<s>", "add_bos_token": false}' >"$work/letters/tokenizer_config.json"
    run 2 extract "${letters[@]}" --out "$work/begin" &&
        says err "was made with another --model (the tokens that go before a text): [60]; this command has []" &&
        run 0 extract "${letters[@]}" --out "$work/none" --dry-run &&
        says out "before each text no token, by tokenizer_config.json"
}

# A broken file is to be fetched again; another way to give the corpus does not mend it.
damaged_tokenizer() {
    letters_model
    local letters=(--model "$work/letters" --corpus "$work/damaged.jsonl" --seq-len 16 --taps 1 --codec raw) name
    printf '{"text": "abc"}\n' >"$work/damaged.jsonl"
    for name in tokenizer_config.json tokenizer.json config.json; do
        cp "$work/letters/$name" "$work/kept.json"
        head -c 20 "$work/kept.json" >"$work/letters/$name"
        run 1 extract "${letters[@]}" --out "$work/damaged" --dry-run &&
            says err "$name: line " && says err "the file is damaged: fetch it again" || return 1
        ! grep -q "elsewhere" "$work/err" || return 1
        cp "$work/kept.json" "$work/letters/$name"
    done
    rm "$work/letters/tokenizer.json"
    run 1 extract "${letters[@]}" --out "$work/damaged" --dry-run && says err "tokenize it elsewhere"
}

# The value of a number in the last command's JSON.
number() { sed -nE "s/^ *\"$1\": ([0-9]+),?$/\1/p" "$work/out"; }

# What the program says it needs suffices, with the weights one layer at a time; all of them take their
# size in the compute type and less than 1 GB more.

memory() {
    local taps=(--model "$model" --corpus "$ids" --held-out 0 --tokens 1024 --taps 8 --json)
    run 2 extract "${taps[@]}" --out "$work/memory" --memory 1M && says err "this model needs at least" || return 1
    local least
    least=$(sed -nE 's/.*at least ([0-9]+)(\.[0-9]+)? MB.*/\1/p' "$work/err")
    run 0 extract "${taps[@]}" --out "$work/memory" --memory "${least}M" && says out '"resident": false' &&
        { sanitized || [ "$(number peak_memory)" -le $((least * 1048576)) ]; } &&
        run 0 extract "${taps[@]}" --out "$work/resident" && says out '"resident": true' &&
        { sanitized || [ "$(number peak_memory)" -le $(($(number weight_bytes) + 1000000000)) ]; }
}

# One document needs no token between documents.
token_file_of_one_document() {
    cp -r tests/golden/llama "$work/endless" && sed -i -E 's/"eos_token_id": *[0-9]+/"eos_token_id": null/' "$work/endless/config.json" &&
        rm -f "$work/endless/generation_config.json" || return 1
    local options=(--model "$work/endless" --held-out 0.3 --seq-len 16 --taps 1)
    run 0 extract "${options[@]}" --corpus "$ids" --out "$work/single" && says out "from 1 and 0 documents" &&
        run 0 extract "${options[@]}" --corpus "$ids" --out "$work/single2" --dry-run && says out "runs of sequences" &&
        run 0 extract "${options[@]:0:2}" --seq-len 16 --taps 1 --corpus "$ids" --held-out-corpus "$held_out" --out "$work/pair" &&
        says out "249 training and 249 held-out" || return 1
    run 2 extract "${options[@]}" --corpus "$ids" "$held_out" --out "$work/double" && says err "give it with --end-of-text"
}

# The same ids from a gzip file, in one member or two, and when it grows.
compressed_corpora() {
    local name taps=(--model "$tiny" --held-out 0.2 --seq-len 16 --taps 1)
    gzip -c "$ids" >"$work/ids.u16.gz" && run 0 extract "${taps[@]}" --corpus "$ids" --out "$work/plain" || return 1
    perl -e 'open F, $ARGV[0]; binmode F; read F, $_, 3001; print' "$ids" | gzip -c >"$work/parts.u16.gz"
    tail -c +3002 "$ids" | gzip -c >>"$work/parts.u16.gz"
    run 0 cache export --tap 1 --out "$work/a" "$work/plain" || return 1
    for name in ids parts; do
        run 0 extract "${taps[@]}" --corpus "$work/$name.u16.gz" --out "$work/$name.store" &&
            run 0 cache export --tap 1 --out "$work/b" "$work/$name.store" && cmp "$work/a" "$work/b" || return 1
    done
    # grown by another member
    head -c 900 "$ids" | tee -a "$ids.longer" | gzip -c >>"$work/ids.u16.gz"
    cat "$ids" "$ids.longer" >"$work/longer.u16"
    run 0 extract "${taps[@]}" --corpus "$work/ids.u16.gz" --out "$work/ids.store" && says err "has grown" &&
        run 0 extract "${taps[@]}" --corpus "$work/longer.u16" --out "$work/longer" &&
        run 0 cache export --tap 1 --out "$work/a" "$work/longer" && run 0 cache export --tap 1 --out "$work/b" "$work/ids.store" &&
        cmp "$work/a" "$work/b" || return 1
    head -c 2000 "$work/parts.u16.gz" >"$work/cut.u16.gz"
    run 1 extract "${taps[@]}" --corpus "$work/cut.u16.gz" --out "$work/cut" && says err "cut.u16.gz: byte 2000: the compressed file is cut short here"
}

check help_and_version
check wrong_usage
check missing_files
check unfit_for_the_model
check no_tokenizer
check token_outside_the_vocabulary
check too_little_text
check summary
check same_command_again
check changed_options
check token_file_of_one_document
check compressed_corpora
check changed_file_of_the_same_size
check full_output
check begin_of_text
check damaged_tokenizer
check_with_model texts
check_with_model memory
finish

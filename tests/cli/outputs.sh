#!/usr/bin/env bash
# outputs.sh: what is written to --out and its like: never over what is not a file, into what holds something else,
# or where the corpus would find it; and what holds nothing yet is taken.
. "$(dirname "$0")/lib.sh"
tiny=tests/golden/gguf-llama.gguf # 2 layers, 64 tokens, no tokenizer
ids=$work/ids.u16
perl -e 'srand(3); print pack("v*", map { int(rand(64)) } 1 .. 2000)' >"$ids"
perl -e 'srand(4); print pack("v*", map { int(rand(64)) } 1 .. 400)' >"$work/held_out.u16"
small=(extract --model "$tiny" --corpus "$ids" --held-out-corpus "$work/held_out.u16" --held-out-tokens 160 --seq-len 16)
run 0 "${small[@]}" --taps 1,final --out "$work/store" || exit 1
klt=("${small[@]}" --taps final --codec klt:4 --out "$work/klt")
run 0 "${small[@]}" --taps 1 --codec raw --out "$work/bench-store" || exit 1

# Every command that writes a file: none replaces PATH.
all_refuse() {
    run 1 cache export --tap 1 --out "$1" "$work/store" && says err "$2" &&
        run 1 cache bench --svg "$1" "$work/store" && says err "--svg: $1: $2" && [ ! -s "$work/out" ] &&
        run 1 "${klt[@]}" --pilot-out "$1" && says err "--pilot-out: $1: $2" && [ ! -e "$work/klt" ]
}

pipes() {
    mkfifo "$work/fifo"
    ln -s fifo "$work/link"
    all_refuse "$work/fifo" "is not a regular file" && all_refuse "$work/link" "is not a regular file" &&
        all_refuse /dev/stdout "is not a regular file" && [ -p "$work/fifo" ] && [ -L "$work/link" ] || return 1
    "$build/cache" export --tap 1 --out /dev/stdout "$work/store" 2>"$work/err" | cat >"$work/out"
    [ "${PIPESTATUS[0]}" = 1 ] && says err "is not a regular file"
}

devices() {
    local device=$work/full
    mknod -m 666 "$device" c 1 7 2>/dev/null || device=/dev/null # only root may
    all_refuse "$device" "is not a regular file" && [ -c "$device" ]
}

folders() {
    mkdir "$work/folder"
    all_refuse "$work/folder" "is a folder" && all_refuse "$work/none/file" "a file cannot be made there: No such file"
}

# Where a folder is wanted. Nothing is computed first.
not_folders() {
    local place
    mkfifo "$work/a_pipe"
    ln -s a_circle "$work/a_circle"
    for place in "$ids" "$work/a_pipe" "$work/a_circle" /dev/null; do
        local text="$place: is not a folder"
        [ "$place" != "$work/a_circle" ] || text="$place: is a link that leads nowhere"
        run 1 "${small[@]}" --taps 1 --out "$place" && says err "--out: $text" && ! grep -q device: "$work/err" &&
            run 1 "${small[@]}" --taps 1 --dry-run --out "$place" && says err "--out: $text" &&
            run 1 cache export --format npy --tap 1 --out "$place" "$work/store" && says err "$text" &&
            run 1 cache recode --codec raw --out "$place" "$work/store" && says err "$text" &&
            run 1 cache merge --out "$place" "$work/store" && says err "$text" &&
            run 1 train --store "$work/store" --tap 1 --head norm --out "$place" && says err "$text" || return 1
    done
}

# A variable of the shell that is not set: extract knows it by its command line.
no_name() {
    run 2 "${small[@]}" --taps 1 --out "" && says err "--out: the path is empty" &&
        run 2 "${klt[@]}" --pilot-out "" && says err "--pilot-out: the path is empty" &&
        run 2 cache export --tap 1 --out "" "$work/store" && says err "the name is empty" &&
        run 2 cache export --format npy --tap 1 --out "" "$work/store" && says err "the name is empty" &&
        run 2 cache bench --svg "" "$work/store" && says err "--svg: the name is empty" &&
        run 2 cache recode --codec raw --out "" "$work/store" && says err "the name is empty" &&
        run 2 cache merge --out "" "$work/store" && says err "the name is empty" &&
        run 2 train --store "$work/store" --tap 1 --head norm --out "" && says err "the name is empty"
}

# A link stays; what it names is replaced.
links() {
    mkdir "$work/elsewhere"
    echo old >"$work/elsewhere/states"
    ln -s elsewhere/states "$work/states"
    run 0 cache export --tap 1 --out "$work/states" "$work/store" && [ -L "$work/states" ] &&
        [ "$(wc -c <"$work/elsewhere/states")" -gt 10000 ]
}

npy() {
    mkdir "$work/arrays"
    mkfifo "$work/arrays/states.npy"
    run 1 cache export --format npy --tap 1 --out "$work/arrays" "$work/store" && says err "states.npy: is not a regular file" &&
        run 1 cache export --format npy --tap 1 --out "$work/fifo" "$work/store" && [ -p "$work/fifo" ] && [ -p "$work/arrays/states.npy" ]
}

# limited KIB PROGRAM ARGUMENT...: fails with a message, not by a signal, where a file may not be larger
limited() {
    local kib=$1
    shift
    (ulimit -f "$kib" && run 1 "$@") && says err "$1"
}
# What a file system with no room for a larger file says is said, and nothing is left half.
file_limit() {
    local limit="ulimit -f"
    mkdir "$work/limit"
    limited 8 cache export --tap 1 --out "$work/limit/states" "$work/store" && says err "File too large" &&
        limited 8 cache export --format npy --tap 1 --out "$work/limit/arrays" "$work/store" && says err "File too large" || return 1
    [ -z "$(find "$work/limit" -type f)" ] || { echo "    left: $(find "$work/limit" -type f)"; return 1; }
    limited 40 cache recode --codec raw --out "$work/limit/recoded" "$work/store" && says err "$limit" &&
        run 0 cache recode --codec raw --out "$work/limit/recoded" "$work/store" && run 0 cache verify "$work/limit/recoded" &&
        limited 40 "${small[@]}" --taps 1,final --out "$work/limit/store" && says err "$limit" &&
        run 0 "${small[@]}" --taps 1,final --out "$work/limit/store" && run 0 cache verify "$work/limit/store" &&
        limited 1 train --store "$work/store" --tap 1 --head norm --steps 2 --out "$work/limit/run" && says err "File too large" || return 1
    [ -z "$(find "$work/limit" -name '*.tmp*')" ] || { echo "    left: $(find "$work/limit" -name '*.tmp*')"; return 1; }
    run 0 train --store "$work/store" --tap 1 --head norm --steps 2 --out "$work/limit/run"
}

# ---- folders of other things ----

only() { [ "$(ls -A "$1")" = "$2" ] || { echo "    $1 holds $(ls -A "$1")"; return 1; }; }

other_files() {
    mkdir "$work/texts" "$work/empty"
    cp "$ids" "$work/texts/a.u16"
    run 1 "${small[@]}" --taps 1 --out "$work/texts" && says err "$work/texts: holds other files (a.u16" && only "$work/texts" a.u16 &&
        run 1 cache recode --codec raw --out "$work/texts" "$work/store" && says err "holds other files" && only "$work/texts" a.u16 &&
        run 1 cache merge --out "$work/texts" "$work/store" && says err "holds other files" && only "$work/texts" a.u16 &&
        run 1 train --store "$work/store" --tap 1 --head norm --out "$work/texts" && says err "holds other files" && only "$work/texts" a.u16 &&
        run 1 train --store "$work/store" --tap 1 --head norm --out "$work/store" && says err "holds other files" &&
        run 0 "${small[@]}" --taps 1 --out "$work/empty"
}

# What a killed creation has left is not in the way.
begun_files() {
    mkdir "$work/begun"
    touch "$work/begun/writer.lock" "$work/begun/data.mdb.new" "$work/begun/lock.mdb"
    run 0 "${small[@]}" --taps 1 --out "$work/begun"
}

# Its own corpus, which the next run would read with the store in it, or its model.
among_the_corpus() {
    local text=(extract --model "$work/model" --seq-len 16 --taps 1)
    mkdir -p "$work/corpus/sub" "$work/model" "$work/.hidden/corpus"
    cp tests/golden/llama/{config.json,model.safetensors} "$work/model"
    perl -e 'print pack("v*", map { $_ % 60 } 1 .. 200)' | tee "$work/corpus/a.u16" >"$work/.hidden/corpus/a.u16"
    ln -s corpus "$work/also"
    for out in corpus corpus/store corpus/sub/deeper/store also/store; do
        run 2 "${text[@]}" --corpus "$work/corpus" --out "$work/$out" && says err "is in the corpus" || return 1
    done
    (cd "$work/corpus" && "$OLDPWD/$build/extract" --model ../model --seq-len 16 --taps 1 --corpus .. --out store 2>"$work/err")
    [ $? = 2 ] && says err "is in the corpus" &&
        run 2 "${text[@]}" --corpus "$ids" --held-out-corpus "$work/corpus" --out "$work/corpus/store" && says err "is in the corpus" &&
        run 2 "${text[@]}" --corpus "$work/corpus" --out "$work/o" --codec klt:4 --pilot-out "$work/corpus/p" && says err "--pilot-out" &&
        run 1 "${text[@]}" --corpus "$ids" --out "$work/model" && says err "holds other files" && [ ! -e "$work/o" ] &&
        [ "$(find "$work/corpus" | wc -l)" = 3 ] &&
        run 0 "${text[@]}" --corpus "$work/corpus" --out "$work/corpus/.store" &&
        run 0 "${text[@]}" --corpus "$work/corpus" --out "$work/corpus/.store" &&
        run 0 "${text[@]}" --corpus "$work/corpus" --out "$work/corpus2" && [ -e "$work/corpus2/data.mdb" ] &&
        run 2 "${text[@]}" --corpus "$work/.hidden/corpus" --out "$work/.hidden/corpus/store" && says err "is in the corpus"
}

# ---- what the command reads ----

# kept FOLDER COMMAND...: fails, and every file is as it was
kept() {
    local folder=$1 before
    shift
    before=$(cd "$folder" && find . -type f -not -name '*lock*' -exec sha256sum {} + | sort)
    run 2 "$@" && says err "is a part of what is read" || return 1
    [ "$(cd "$folder" && find . -type f -not -name '*lock*' -exec sha256sum {} + | sort)" = "$before" ] ||
        { echo "    $* changed $folder" && return 1; }
}

a_store_that_is_read() {
    local store=$work/store out
    ln -s store "$work/alias"
    ln -s store/new "$work/dangling"
    for out in "$store"/{data.mdb,sealed,new} "$work/alias/data.mdb" "$work/dangling"; do
        kept "$store" cache export --tap 1 --out "$out" "$store" && kept "$store" cache export --tensor output --out "$out" "$store" &&
            kept "$store" cache bench --svg "$out" "$store" || return 1
    done
    for out in "$store" "$store/sub" "$work/alias" "$work/alias/sub/deep"; do
        kept "$store" cache export --format npy --tap 1 --out "$out" "$store" && kept "$store" cache merge --out "$out" "$store" &&
            kept "$store" cache recode --codec raw --out "$out" "$store" || return 1
    done
}

a_model_or_a_corpus() {
    local out folder=$work/read
    mkdir "$folder" "$folder/llama" && cp tests/golden/llama/{config.json,model.safetensors} "$folder/llama" && cp "$tiny" "$folder/m.gguf" &&
        cp "$ids" "$folder/ids.u16" && ln -s m.gguf "$folder/link.gguf" && mv "$folder/llama/model.safetensors" "$folder/blob" &&
        ln -s ../blob "$folder/llama/model.safetensors"
    local rest=(--corpus "$folder/ids.u16" --held-out 0 --seq-len 16 --taps 1 --codec klt:4 --out "$work/o")
    for dry in --dry-run --force; do
        for out in llama/config.json llama/model.safetensors blob ids.u16; do
            kept "$folder" extract --model "$folder/llama" "${rest[@]}" $dry --pilot-out "$folder/$out" || return 1
        done
        for out in m.gguf link.gguf; do
            kept "$folder" extract --model "$folder/link.gguf" "${rest[@]}" $dry --pilot-out "$folder/$out" || return 1
        done
    done
    [ ! -e "$work/o" ] && run 0 extract --model "$folder/m.gguf" "${rest[@]}" --pilot-out "$folder/parameters" &&
        kept "$work/o" extract --model "$folder/m.gguf" "${rest[@]}" --pilot-out "$work/o/data.mdb"
}

# ---- a store without records ----

begun=("${small[@]}" --taps 1 --codec klt:4 --pilot "$ids") # fails when tokens are stored
nothing_yet() {
    run 1 "${begun[@]}" --out "$work/failed" && says err pilot && [ -e "$work/failed/data.mdb" ] &&
        run 0 "${small[@]}" --taps 1,final --out "$work/failed" && says err "$work/failed: this store had no records and is begun anew" &&
        run 0 cache verify "$work/failed" &&
        run 2 "${small[@]}" --taps 1 --out "$work/failed" && says err "taps" && run 0 cache verify "$work/failed"
}

# Its pilot goes with it.
nothing_but_a_pilot() {
    run 1 "${begun[@]}" --out "$work/piloted"
    mkdir "$work/piloted/pilot"
    cp "$work/store"/* "$work/piloted/pilot"
    run 0 "${small[@]}" --taps 1,final --out "$work/piloted" && [ ! -e "$work/piloted/pilot" ]
}

for test in pipes devices folders not_folders no_name links npy file_limit other_files begun_files among_the_corpus a_store_that_is_read a_model_or_a_corpus nothing_yet nothing_but_a_pilot; do
    check $test
done
finish

#!/usr/bin/env bash
# install.sh: make install into a folder of its own: programs, cuda backend, pipelines and manual pages find each other
# from there, and make uninstall takes them away.
. "$(dirname "$0")/lib.sh"
unset BUILD # the pipelines find the programs without it
stage=$work/stage prefix=/opt/x
bin=$stage$prefix/bin man=$stage$prefix/share/man/man1
tiny=tests/golden/gguf-llama.gguf # 2 layers, 64 tokens
ids=$work/ids.u16
perl -e 'srand(3); print pack("v*", map { int(rand(64)) } 1 .. 6000)' >"$ids"

# The programs that are there, in a build folder of the test's own, with a cuda backend that works without a GPU.
mkdir "$work/build"
arguments=(DESTDIR="$stage" PREFIX=$prefix BUILD="$work/build" NVCC=)
for program in extract train generate cache; do
    cp "$build/$program" "$work/build/"
    arguments+=(-o "$work/build/$program")
done
cp "$build/libofframp_cuda_emulated.so" "$work/build/libofframp_cuda.so"
install_it() { make -s "${arguments[@]}" "$@" >"$work/out" 2>"$work/err" && [ ! -s "$work/err" ] || { cat "$work/err"; return 1; }; }
# installed STATUS NAME ARGUMENT...: as run, of bin/offramp-NAME, from another folder
installed() {
    local expected=$1 name=$2 status
    shift 2
    (cd / && "$bin/offramp-$name" "$@") >"$work/out" 2>"$work/err" </dev/null
    status=$?
    [ "$status" = "$expected" ] && return 0
    echo "    offramp-$name $* ended with $status, not $expected: $(head -c 400 "$work/err")"
    return 1
}

programs_are_there() {
    local program
    install_it install || return 1
    for program in extract train generate cache; do
        installed 0 $program --version && says out "offramp-$program" && installed 2 $program --nonsense &&
            says err "offramp-$program" || return 1
    done
    # Nothing is outside PREFIX, and nothing tells of the staging folder.
    [ "$(ls "$stage") $(ls "$stage/opt")" = "opt x" ] && ! grep -rqI "$stage" "$stage"
}

small=(--model "$PWD/$tiny" --corpus "$ids" --seq-len 16 --held-out-tokens 320 --taps 1,final)
cuda_backend_is_found() {
    head -c 640 "$ids" >"$work/held_out.u16"
    installed 0 extract "${small[@]}" --held-out-corpus "$work/held_out.u16" --tokens 320 --device cuda --out "$work/cuda" &&
        says err "device: cuda (emulated" || return 1
    # One that is left over from another build is named by its path; without one, both places are.
    echo 'int none;' | gcc -shared -fPIC -x c - -o "$stage$prefix/lib/offramp/libofframp_cuda.so" &&
        installed 1 extract "${small[@]}" --held-out 0 --device cuda --out "$work/none" &&
        says err "$prefix/lib/offramp/libofframp_cuda.so is not a cuda backend" || return 1
    rm "$stage$prefix/lib/offramp/libofframp_cuda.so"
    installed 1 extract "${small[@]}" --held-out 0 --device cuda --out "$work/none" &&
        says err "is neither in $bin nor in $stage$prefix/lib/offramp" && says err "make install" || return 1
    # An installation without one takes an old one away.
    install_it install && mv "$work/build/libofframp_cuda.so" "$work/kept.so" && install_it install &&
        [ ! -e "$stage$prefix/lib/offramp/libofframp_cuda.so" ] && mv "$work/kept.so" "$work/build/libofframp_cuda.so" && install_it install
}

# A link to a program is as good as the program.
by_a_link() {
    ln -s "$bin/offramp-extract" "$work/linked"
    "$work/linked" "${small[@]}" --held-out-corpus "$work/held_out.u16" --tokens 320 --device cuda --out "$work/cuda" >"$work/out" 2>"$work/err" &&
        says err "device: cuda (emulated"
}

pipelines_find_programs() {
    installed 0 tune --help && says out "$bin/offramp-tune [OPTIONS] MODEL CORPUS OUT" && installed 0 slurm --help && says out "$bin/offramp-slurm OUT --model M" &&
        installed 2 tune && installed 2 slurm || return 1
    local held=(--held-out-tokens 320 --seq-len 16 --taps 1,final)
    printf 'steps: 2\ntrials:\n  - {tap: 1, head: norm}\n' >"$work/sweep.yaml"
    perl -e 'srand(4); for (1 .. 300) { print pack("v*", (map { 1 + int(rand(63)) } 1 .. 20), 0) }' >"$work/documents.u16"
    installed 0 tune "${held[@]}" --sweep "$work/sweep.yaml" "$PWD/$tiny" "$work/documents.u16" "$work/tuned" &&
        says out "report: $work/tuned/run/report.html" || return 1
    BUILD=$bin pipelines/tune.sh "${held[@]}" --sweep "$work/sweep.yaml" "$tiny" "$work/documents.u16" "$work/tuned" >"$work/out" 2>"$work/err" &&
        says out "report: " || return 1
    (take_jobs && installed 0 slurm "$work/cluster" "${small[@]:0:4}" --sweep "$work/sweep.yaml" --shards 1 -- "${small[@]:4}" --held-out 0 \
        --tokens 320 && SLURM_ARRAY_JOB_ID=1 SLURM_ARRAY_TASK_ID=0 installed 0 slurm --task extract "$work/cluster") &&
        [ -e "$work/cluster/store/0/sealed" ] && BUILD=/nowhere installed 1 tune "$tiny" "$ids" "$work/no" &&
        says err "the program extract is not there" && says err "BUILD=FOLDER" && [ ! -e "$work/no" ]
}

# What --help says is in the page, by word: every option, with its text.
pages_say_what_help_says() {
    local program command page words
    for program in extract train generate cache tune slurm; do
        page=$man/offramp-$program.1
        [ -s "$page" ] || { echo "    no page of $program"; return 1; }
        words=$(sed -e 's/\\e/\\/g; s/\\-/-/g; s/^\\&//' "$page" | tr -s ' \n' ' ')
        for command in '' $([ $program != cache ] || echo info verify repair merge recode split export bench); do
            # shellcheck disable=SC2086 # without a command there is not a word
            installed 0 $program $command --help || return 1
            while read -r option; do
                [[ $words == *" $option "* ]] || { echo "    $option is not in the page of $program $command"; return 1; }
            done < <(grep -oE '^ +(-[a-zA-Z?], )?--[a-z0-9-]+[^ ]*' "$work/out" | sed -E 's/^ +(-., )?//')
        done
    done
    grep -q '^.SH "offramp\\-cache verify"' "$man/offramp-cache.1" && grep -q 'a finished store; give it again for each further shard' "$man/offramp-train.1"
}

pages_are_clean() {
    local page
    for page in "$man"/*.1; do
        groff -man -ww -Tutf8 -z "$page" >"$work/err" 2>&1 && [ ! -s "$work/err" ] || { cat "$work/err"; return 1; }
    done
    [ $(cat "$man"/*.1 | grep -c "pipelines/[a-z]*\.sh \[") = 0 ] && groff -man -Tutf8 "$man/offramp-extract.1" | sed 's/\x1b\[[0-9;]*m//g' >"$work/out" && says out "offramp-extract - run a model over a corpus"
}

uninstalled() {
    echo kept >"$bin/other"
    mkdir "$stage$prefix/lib/offramp/cuda"
    make -s "${arguments[@]}" uninstall && [ "$(cd "$stage$prefix" && find . ! -type d)" = ./bin/other ] &&
        [ -d "$stage$prefix/lib/offramp/cuda" ] && [ ! -e "$stage$prefix/share" ] && make -s "${arguments[@]}" uninstall && [ -e "$bin/other" ] || return 1
    rm "$bin/other"
    rmdir "$stage$prefix/lib/offramp/cuda"
    install_it install && make -s "${arguments[@]}" uninstall && [ -d "$stage$prefix" ] && [ -z "$(ls -A "$stage$prefix")" ]
}

for name in programs_are_there cuda_backend_is_found by_a_link pipelines_find_programs pages_say_what_help_says; do check $name; done
if command -v groff >"$work/out"; then
    check pages_are_clean
else
    skipped=$((skipped + 1))
    echo "    skipped: pages_are_clean: no groff here"
fi
check uninstalled
finish

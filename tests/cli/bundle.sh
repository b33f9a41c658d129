#!/usr/bin/env bash
# bundle.sh: the archive of `make bundle`, unpacked in a root that has nothing but glibc: the programs run, and
# the tests of an op family.
. "$(dirname "$0")/lib.sh"

# The run paths of the programs need /proc; a mount of it that only the command sees needs a namespace, which
# everybody may have where user namespaces are allowed.
root=$work/root
PATH=$PATH:/usr/sbin:/sbin
enter=(unshare --mount)
if [ "$(id -u)" != 0 ]; then enter=(unshare --map-root-user --mount); fi
inside() { # inside COMMAND...: in the empty root
    "${enter[@]}" sh -c 'mount --rbind /proc "$0/proc" && exec env -i "$(command -v chroot)" "$0" "$@"' "$root" "$@" \
        </dev/null >"$work/out" 2>"$work/err" && return 0
    echo "    $* failed in the empty root: $(head -c 400 "$work/err")"
    return 1
}

mkdir -p "$root/proc"
if ! "${enter[@]}" mount --rbind /proc "$root/proc" 2>"$work/err"; then
    echo "    skipped: no empty root here: $(cat "$work/err")"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
fi
if sanitized; then
    echo "    skipped: programs under AddressSanitizer are not bundled"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
fi

is_made_and_small() {
    ZSTD_CLEVEL=3 BUILD=$build pipelines/bundle.sh >"$work/out" 2>&1 || { cat "$work/out"; return 1; }
    archive=$(ls "$build"/offramp-*.tar.zst)
    [ "$(stat -c %s "$archive")" -le 60000000 ] || { ls -l "$archive"; return 1; }
    tar --zstd -xf "$archive" -C "$root" && mv "$root"/offramp-* "$root/anywhere"
}

glibc_alone() {
    local file
    for file in $(ldd "$build/extract" | grep -oE '/[^ ]*/(ld-linux-x86-64\.so\.2|lib(c|m|dl|pthread|rt)\.so\.[0-9]+)'); do
        mkdir -p "$root/$(dirname "$file")" && cp -L "$file" "$root/$file" || return 1
    done
    mkdir -p "$root/tmp"
}

programs_start() {
    local program
    for program in extract train generate cache; do
        inside /anywhere/bin/$program --version && says out "offramp $program" || return 1
    done
}

programs_work() {
    printf '\1\0%.0s' {1..64} >"$root/tmp/tokens.bin"
    inside /anywhere/bin/extract --model /anywhere/tests/golden/llama --corpus /tmp/tokens.bin --token-type u16 \
        --end-of-text 0 --held-out 0 --seq-len 16 --tokens 48 --taps 1,final --out /tmp/store &&
        inside /anywhere/bin/cache verify /tmp/store &&
        inside /anywhere/bin/tests/bench/make_store /tmp/made &&
        inside /anywhere/bin/train --store /tmp/made --out /tmp/run --tap 1 --head norm --steps 2
}

# Here, where there is a shell.
pipelines_find_programs() {
    printf 'trials:\n  - {tap: 1, head: norm}\n' >"$root/tmp/sweep.yaml"
    (take_jobs && unset BUILD && cd / && "$root/anywhere/pipelines/slurm.sh" "$root/tmp/chain" --model "$root/anywhere/tests/golden/llama" \
        --corpus "$root/tmp/tokens.bin" --sweep "$root/tmp/sweep.yaml" --shards 1 -- --token-type u16 --end-of-text 0 --held-out 0 --seq-len 16 \
        --tokens 32 --taps 1 && SLURM_ARRAY_JOB_ID=1 SLURM_ARRAY_TASK_ID=0 "$root/anywhere/pipelines/slurm.sh" --task extract "$root/tmp/chain") \
        >"$work/out" 2>"$work/err" && [ -e "$root/tmp/chain/store/0/sealed" ] || {
        cat "$work/err"
        return 1
    }
}

ops_match() {
    inside /anywhere/bin/tests/ops/rows match_ref_in_f32 && says out "1 passed, 0 failed"
}

# What tests/gpu/device.sh runs on a machine with a GPU is there.
device_tests_are_there() {
    local program
    for program in $(sed -n '/^programs=(/,/)/p' "$root/anywhere/tests/gpu/device.sh" | grep -oE '(ops|golden|unit)/[a-z]+'); do
        [ -x "$root/anywhere/bin/tests/$program" ] || { echo "    $program is missing" && return 1; }
    done
}

check is_made_and_small
check glibc_alone
check programs_start
check programs_work
check pipelines_find_programs
check ops_match
check device_tests_are_there
finish

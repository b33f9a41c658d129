#!/usr/bin/env bash
# readonly.sh: train, verify, info and export from a store that nothing may write to, and from one on a file
# system that knows no locks.
. "$(dirname "$0")/../cli/lib.sh"
"$build/tests/bench/make_store" "$work/store" train=40 held_out=8 || exit 1
printf 'steps: 20\nsequences: 4\ntrials:\n  - {tap: 1, head: affine, init: ridge}\n  - {tap: 2, head: norm}\n' >"$work/sweep.yaml"
run 0 train --store "$work/store" --out "$work/run" --sweep "$work/sweep.yaml" || exit 1

perl -e 'print pack("v*", map { $_ % 64 } 1 .. 400)' >"$work/ids.u16"

# reads STORE NAME: all programs that read, with the result that the store gives elsewhere
reads() {
    run 0 train --store "$1" --out "$work/run.$2" --sweep "$work/sweep.yaml" &&
        cmp "$work/run/leaderboard.tsv" "$work/run.$2/leaderboard.tsv" && run 0 cache verify "$1" && says out ", 0 problems" &&
        run 0 cache info "$1" && says out "finished" && run 0 cache export --tap 1 --out "$work/$2.safetensors" "$1"
}

read_only_system() {
    mkdir -p "$work/disk" && mount -t tmpfs -o size=64m none "$work/disk" && cp -r "$work/store" "$work/disk" &&
        mount -o remount,ro "$work/disk" && reads "$work/disk/store" fixed
    local result=$?
    umount "$work/disk"
    return $result
}

# Every file system call that locks fails as on a network file system without a lock daemon.
no_locks() {
    cat >"$work/locks.c" <<'END'
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>
static int locks(int command)
{
    return command == F_SETLK || command == F_SETLKW || command == F_GETLK || command == F_OFD_SETLK;
}
int fcntl(int file, int command, ...)
{
    va_list list;
    va_start(list, command);
    void *argument = va_arg(list, void *);
    va_end(list);
    errno = ENOLCK;
    return locks(command) ? -1 : (int)syscall(SYS_fcntl, file, command, argument);
}
int fcntl64(int file, int command, ...)
{
    va_list list;
    va_start(list, command);
    void *argument = va_arg(list, void *);
    va_end(list);
    return fcntl(file, command, argument);
}
int flock(int file, int operation) { (void)file, (void)operation, errno = ENOLCK; return -1; }
END
    ${CC:-cc} -shared -fPIC -o "$work/locks.so" "$work/locks.c" || return 1
    cp -r "$work/store" "$work/unlocked" && rm "$work/unlocked/sealed" "$work/unlocked/"*lock* || return 1
    export LD_PRELOAD=$work/locks.so ASAN_OPTIONS=${ASAN_OPTIONS:-}:verify_asan_link_order=0
    reads "$work/store" sealed && reads "$work/unlocked" unlocked &&
        run 1 extract --model tests/golden/gguf-llama.gguf --corpus "$work/ids.u16" --held-out 0 --seq-len 32 \
            --out "$work/unlocked" && says err "cannot be locked for writing; write the store on a local disk"
    local result=$?
    unset LD_PRELOAD
    return $result
}

check_on_tmpfs read_only_system
check no_locks
finish

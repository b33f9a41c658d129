#!/usr/bin/env bash
# recode.sh: cache recode: exact codecs give the store that extract makes with them; others stay within theirs.
. "$(dirname "$0")/lib.sh"
tiny=tests/golden/gguf-llama.gguf # 2 layers, 64 tokens, no tokenizer
perl -e 'srand(3); print pack("v*", map { int(rand(64)) } 1 .. 9000)' >"$work/ids.u16"
extraction=(extract --model "$tiny" --corpus "$work/ids.u16" --held-out 0.2 --seq-len 64 --taps 1,1.mid,final)
run 0 "${extraction[@]}" --out "$work/lossless" && run 0 "${extraction[@]}" --codec raw --out "$work/raw" || exit 1

wrong_usage() {
    run 2 cache recode --out "$work/s" --codec raw && says err "a store is missing" &&
        run 2 cache recode --out "$work/s" "$work/raw" && says err "--codec is missing" &&
        run 2 cache recode --codec raw "$work/raw" && says err "--out is missing" &&
        run 2 cache recode --codec zip --out "$work/s" "$work/raw" && says err "zip" &&
        run 1 cache recode --codec 2.mid=raw --out "$work/s" "$work/raw" && says err "tap 2.mid" && [ ! -e "$work/s" ]
}

# same_states A B TAP...: and verify has nothing to say
same_states() {
    local a=$1 b=$2 tap
    shift 2
    run 0 cache verify "$a" "$b" || return 1
    for tap; do
        run 0 cache export --tap "$tap" --format npy --out "$work/x" "$a" &&
            run 0 cache export --tap "$tap" --format npy --out "$work/y" "$b" && diff -r "$work/x" "$work/y" || return 1
    done
}

# sizes STORE: names, codecs and bytes of the taps; may run beside itself
sizes() { "$build/cache" info --json "$1" | sed '/"recoded"/,/\]/d' | grep -E '"(name|codec|bytes|train|held_out)"'; }

exact() {
    run 0 cache recode --codec raw --out "$work/recoded" "$work/lossless" && says out "finished" &&
        same_states "$work/raw" "$work/recoded" 1 1.mid final target &&
        diff <(sizes "$work/raw" | grep -v bytes) <(sizes "$work/recoded" | grep -v bytes) &&
        run 0 cache recode --codec lossless --out "$work/back" "$work/recoded" &&
        same_states "$work/lossless" "$work/back" 1 1.mid final target
}

# One tap in klt, fitted to the store; the others keep their bytes. The same command again does nothing.
some() {
    run 0 cache recode --codec lossless,1=klt:6 --out "$work/some" "$work/lossless" &&
        same_states "$work/lossless" "$work/some" 1.mid final target && run 0 cache info "$work/some" && says out "klt:6" &&
        sum=$(sha256sum <"$work/some/data.mdb") &&
        run 0 cache recode --codec lossless,1=klt:6 --out "$work/some" "$work/lossless" &&
        [ "$sum" = "$(sha256sum <"$work/some/data.mdb")" ] &&
        run 1 cache recode --codec lossless,1=klt:5 --out "$work/some" "$work/lossless" && says err "is another store"
}

# The bytes depend on the store alone: not on threads.
threads() {
    run 0 cache recode --codec klt:kl=0.01 --threads 1 --out "$work/one" "$work/lossless" &&
        run 0 cache recode --codec klt:kl=0.01 --threads 3 --out "$work/three" "$work/lossless" &&
        same_states "$work/one" "$work/three" 1 1.mid final target && diff <(sizes "$work/one") <(sizes "$work/three")
}

shards() {
    local shard
    for shard in 0 1; do run 0 "${extraction[@]}" --shard $shard/2 --out "$work/shard$shard" || return 1; done
    run 0 cache recode --codec raw --out "$work/joined" "$work"/shard? &&
        same_states "$work/raw" "$work/joined" 1 1.mid final target
}

# The disk becomes full in the middle; with room again, the same command goes on.
full_disk() {
    local disk=$work/disk
    mkdir -p "$disk" && mount -t tmpfs -o size=24m none "$disk" && head -c 23m /dev/zero >"$disk/ballast" || return 1
    run 1 cache merge --out "$disk/merged" "$work/raw" && says err "merged: needs" && [ ! -e "$disk/merged" ] &&
        run 1 cache recode --codec raw:f32 --out "$disk/store" "$work/raw" && says err "disk full" && rm "$disk/ballast" &&
        run 0 cache recode --codec raw:f32 --out "$disk/store" "$work/raw" &&
        same_states "$work/raw" "$disk/store" 1 1.mid final target
    local result=$?
    umount "$disk"
    return $result
}

check wrong_usage
check exact
check some
check threads
check shards
check_on_tmpfs full_disk
finish

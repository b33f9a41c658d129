#!/usr/bin/env bash
# recode.sh: cache recode: exact codecs give the store that extract makes with them; others stay within theirs.
. "$(dirname "$0")/lib.sh"
tiny=tests/golden/gguf-llama.gguf # 2 layers, 64 tokens, no tokenizer
perl -e 'srand(3); print pack("v*", map { int(rand(64)) } 1 .. 9000)' >"$work/ids.u16"
extraction=(extract --model "$tiny" --corpus "$work/ids.u16" --held-out 0.2 --seq-len 64 --taps 1,1.mid,final)
run 0 "${extraction[@]}" --out "$work/lossless" && run 0 "${extraction[@]}" --codec raw --out "$work/raw" || exit 1
perl -e 'srand(4); print pack("v*", map { int(rand(64)) } 1 .. 90_000)' >"$work/long.u16"
run 0 "${extraction[@]}" --corpus "$work/long.u16" --out "$work/long" || exit 1

wrong_usage() {
    run 2 cache recode --out "$work/s" --codec raw && says err "a store is missing" &&
        run 2 cache recode --out "$work/s" "$work/raw" && says err "--codec is missing" &&
        run 2 cache recode --codec raw "$work/raw" && says err "--out is missing" &&
        run 2 cache recode --codec zip --out "$work/s" "$work/raw" && says err "zip" &&
        run 2 cache recode --codec 2.mid=raw --out "$work/s" "$work/raw" && says err "tap 2.mid" && [ ! -e "$work/s" ]
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

# forecast: the bytes that the last command foretold
forecast() {
    perl -ne 'my %of = (B => 1, kB => 1e3, MB => 1e6, GB => 1e9);
        print $1 * $of{$2} if /will have about ([\d.]+) (\w+);/' "$work/out"
}

# foretells CODEC STORE: within 5 % of the file that comes
foretells() {
    local told real
    rm -rf "$work/told" && run 0 cache recode --codec "$1" --out "$work/told" "$2" || return 1
    told=$(forecast) real=$(stat -c %s "$work/told/data.mdb")
    perl -e 'my ($told, $real) = @ARGV; exit(abs($told - $real) > 0.05 * $real)' "$told" "$real" && return 0
    echo "    $1: $told foretold, $real came"
    return 1
}

# Codecs of any kind; then two stores in which parameters are a good part, and are made or copied.
foretold() {
    local codec
    for codec in raw raw:f32 lossless q8 klt:3 lossless,1=klt:6,final=raw; do
        foretells $codec "$work/long" || return 1
    done
    "$build/tests/bench/make_store" "$work/wide" hidden=256 rows=32 train=48 held_out=4 taps=1,2 &&
        foretells klt:3 "$work/wide" && mv "$work/told" "$work/wide3" && foretells klt:3,2=raw "$work/wide3"
}

# What is there already need not be written: a run that was stopped by a full disk goes on with little room.
little_room() {
    local disk=$work/disk
    mkdir -p "$disk" && mount -t tmpfs -o size=82m none "$disk" && head -c 6m /dev/zero >"$disk/ballast" || return 1
    run 1 cache recode --codec raw:f32 --force --out "$disk/store" "$work/long" && says err "disk full" &&
        rm "$disk/ballast" && run 0 cache recode --codec raw:f32 --out "$disk/store" "$work/long" &&
        run 0 cache verify "$disk/store"
    local result=$?
    umount "$disk"
    return $result
}

# The disk becomes full in the middle; with room again, the same command goes on.
full_disk() {
    local disk=$work/disk
    mkdir -p "$disk" && mount -t tmpfs -o size=24m none "$disk" && head -c 23m /dev/zero >"$disk/ballast" || return 1
    run 1 cache merge --out "$disk/merged" "$work/raw" && says err "are still to be written" && [ ! -e "$disk/merged" ] &&
        run 1 cache recode --codec raw:f32 --out "$disk/store" "$work/raw" && says err "or give --force" &&
        [ ! -e "$disk/store" ] && run 1 cache recode --codec raw:f32 --force --out "$disk/store" "$work/raw" &&
        says err "warning: about" && says err "disk full" && rm "$disk/ballast" &&
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
check foretold
check_on_tmpfs full_disk
check_on_tmpfs little_room
finish

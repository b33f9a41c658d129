#!/usr/bin/env bash
# cache.sh: kill -9 at random moments of cache verify, repair, merge and recode; every time the same command goes on
# and ends as if nobody had disturbed it.
#
#   tests/faults/cache.sh [KILLS] [SEED]      OFFRAMP_KILLS or 8 of each, from the clock
. "$(dirname "$0")/../cli/lib.sh"
kills=${1:-${OFFRAMP_KILLS:-8}}
seed=${2:-$(($(date +%s) % 32768))}
RANDOM=$seed
echo "    seed $seed, $kills kills of each"
tiny=tests/golden/gguf-llama.gguf # 2 layers, 64 tokens, no tokenizer
perl -e 'srand(3); print pack("v*", map { int(rand(64)) } 1 .. 400_000)' | tee "$work/held.u16" >"$work/ids.u16"
extraction=(extract --model "$tiny" --corpus "$work/ids.u16" --held-out-corpus "$work/held.u16"
    --held-out-tokens 40000 --seq-len 64 --taps 1,1.mid,final)
run 0 "${extraction[@]}" --out "$work/whole" || exit 1
for shard in 0 1 2; do run 0 "${extraction[@]}" --out "$work/shard$shard" --shard $shard/3 || exit 1; done

# begin PROGRAM ARGUMENT...: beside this script, as $pid
begin() {
    "$build/$1" "${@:2}" >"$work/out" 2>"$work/err" </dev/null &
    pid=$!
}

# kill_at_random FRESH PROGRAM ARGUMENT...: FRESH prepares; then the command is killed until it was $kills
# times, begun again each time; where it ends by itself it must end well, and FRESH comes again.
kill_at_random() {
    local fresh=$1 killed=0 finished=0 started span wait_ms
    shift
    $fresh || return 1
    started=$(date +%s%N)
    run 0 "$@" || return 1
    span=$((($(date +%s%N) - started) / 1000000 + 2))
    $fresh || return 1
    while [ $killed -lt "$kills" ]; do
        begin "$@"
        wait_ms=$((RANDOM % span))
        sleep $((wait_ms / 1000)).$(printf '%03d' $((wait_ms % 1000)))
        kill -9 $pid 2>/dev/null
        wait $pid 2>/dev/null
        case $? in
        0) finished=$((finished + 1)) && $fresh ;;
        137) killed=$((killed + 1)) ;;
        *) cat "$work/err" && return 1 ;;
        esac
    done
    run 0 "$@" && echo "    $killed kills in runs of $span ms, $finished ended before"
}

# The stores export the same states at every tap, and verify has nothing to say.
same_stores() {
    local tap
    run 0 cache verify "$1" "$2" || return 1
    for tap in 1 1.mid final; do
        run 0 cache export --tap $tap --out "$work/a" "$1" && run 0 cache export --tap $tap --out "$work/b" "$2" &&
            cmp "$work/a" "$work/b" || return 1
    done
    [ -e "$2/sealed" ]
}

nothing() { true; }

# It leaves nothing behind: no change in the store, and no process.
verify() {
    sum=$(sha256sum <"$work/whole/data.mdb")
    kill_at_random nothing cache verify --processes 3 "$work/whole" && says out ", 0 problems" || return 1
    sleep 0.2
    ! pgrep -f "cache verify --processes 3 $work/whole" && [ "$sum" = "$(sha256sum <"$work/whole/data.mdb")" ]
}

# Every other record of a tap is damaged.
damage() {
    rm -rf "$work/broken" && cp -r "$work/whole" "$work/broken" && perl -e '
        open my $file, "+<:raw", $ARGV[0] or die; local $/; my $bytes = <$file>; my $count = 0;
        while ($bytes =~ /OFRR.{14}\0.\x01\0\0\0/sg) { seek($file, $-[0] + 80, 0), print $file "damage" if $count++ % 2; }' \
        "$work/broken/data.mdb"
}

repair() {
    damage && run 1 cache verify "$work/broken" && says out "tap 1, train sequence" &&
        kill_at_random damage cache repair --model "$tiny" --threads 1 "$work/broken" &&
        same_stores "$work/whole" "$work/broken"
}

# The branches of all trees are gone: the store is built anew, or is as it was.
damage_structure() {
    rm -rf "$work/broken" && cp -r "$work/whole" "$work/broken" && perl -e '
        open my $file, "+<:raw", $ARGV[0] or die; local $/; my $bytes = <$file>;
        for (my $page = 2; $page * 4096 < length $bytes; $page++) {
            next if unpack("V", substr $bytes, $page * 4096, 4) != $page || unpack("v", substr $bytes, $page * 4096 + 10, 2) != 1;
            seek $file, $page * 4096 + 12, 0; print $file "\x11\x11"; }' "$work/broken/data.mdb"
}

rebuild() {
    damage_structure && run 1 cache verify "$work/broken" && says out "structure" &&
        kill_at_random damage_structure cache repair --model "$tiny" --threads 1 "$work/broken" &&
        same_stores "$work/whole" "$work/broken" && [ ! -e "$work/broken/salvage" ]
}

no_merged() { rm -rf "$work/merged"; }

merge() {
    kill_at_random no_merged cache merge "$work"/shard? --out "$work/merged" &&
        same_stores "$work/whole" "$work/merged"
}

# Into a codec with parameters, and back to what the states must be then.
no_recoded() { rm -rf "$work/recoded"; }

recode() {
    run 0 cache recode --codec lossless,1=klt:6 --out "$work/coded" "$work/whole" &&
        kill_at_random no_recoded cache recode --codec lossless,1=klt:6 --out "$work/recoded" "$work/whole" &&
        same_stores "$work/coded" "$work/recoded"
}

check verify
check repair
check rebuild
check merge
check recode
finish

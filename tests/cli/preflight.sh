#!/usr/bin/env bash
# preflight.sh: extract --dry-run foretells what the store comes to, and a run that does not fit is refused.
. "$(dirname "$0")/lib.sh"
tiny=tests/golden/gguf-llama.gguf # 2 layers, 64 tokens, no tokenizer
perl -e 'srand(3); print pack("v*", map { int(rand(64)) } 1 .. 30_000)' >"$work/ids.u16"
perl -e 'srand(4); print pack("v*", map { int(rand(64)) } 1 .. 4_000)' >"$work/other.u16"
small=(--model "$tiny" --corpus "$work/ids.u16" --held-out-corpus "$work/other.u16" --seq-len 128 --taps 0,1.mid,final)

# values FILE: names and numbers of the taps, of JSON
tap_bytes() { perl -0ne 'print "$1 $2\n" while /"name": "([^"]+)",\s+"codec": "[^"]+",(?:[^{}]*?)"bytes": (\d+)/g' "$1"; }

# near A B PERCENT
near() { perl -e 'exit(abs($ARGV[0] - $ARGV[1]) > $ARGV[2] / 100 * $ARGV[1])' "$1" "$2" "$3"; }

dry_run() {
    run 0 extract "${small[@]}" --out "$work/store" --dry-run && says out "234 training and 31 held-out sequences of 128" &&
        says out "1.mid" && says out "target" && says out "it fits" && says out "tokens/s" && says out "all takes about" &&
        [ ! -e "$work/store" ] && [ ! -e "$work/store.pilot" ]
}

# Within 5 % of what the store then has, tap by tap, from a pilot of a part and of all.
sizes() {
    local codec name bytes real
    for codec in lossless raw klt:6,0=lossless; do
        run 0 extract "${small[@]}" --codec $codec --out "$work/$codec" --dry-run --json && says out '"exact": true' &&
            cp "$work/out" "$work/forecast" && run 0 extract "${small[@]}" --codec $codec --out "$work/$codec" &&
            run 0 cache info --json "$work/$codec" || return 1
        tap_bytes "$work/out" >"$work/real"
        [ "$(wc -l <"$work/real")" = 4 ] || return 1
        while read -r name bytes; do
            real=$(sed -n "s/^$name //p" "$work/real")
            near "$bytes" "$real" 5 || { echo "    $codec, $name: $bytes foretold, $real came" && return 1; }
        done < <(tap_bytes "$work/forecast")
        [ "$(grep -o '"parameter_bytes": [0-9]*' "$work/out")" = "$(grep -o '"parameter_bytes": [0-9]*' "$work/forecast")" ] || return 1
        real=$(stat -c %s "$work/$codec/data.mdb")
        bytes=$(sed -nE 's/^ *"bytes": ([0-9]+),$/\1/p' "$work/forecast" | tail -1)
        near "$bytes" "$real" 5 || { echo "    $codec: $bytes foretold, the file has $real" && return 1; }
    done
}

# A corpus of more than 16 MB is sampled: tokens, JSON lines and held-out files in one.
sample() {
    local lines=$work/lines.jsonl
    perl -e 'srand(5); print pack("v*", map { int(rand(64)) } 1 .. 3_000_000) for 1 .. 3' >"$work/big.u16"
    run 0 extract "${small[@]}" --corpus "$work/big.u16" --tokens 2000 --held-out-tokens 1000 --out "$work/s" --dry-run &&
        says out "about 15 training and 7 held-out sequences" || return 1
    [ -n "$model" ] || return 0
    perl -e 'srand(6); for (1 .. 60_000) { my $n = int rand 80; print qq({"text": "), "line $_ of it, " x $n, qq("}\n) }' >"$lines"
    run 0 extract --model "$model" --corpus "$lines" --held-out 0.25 --seq-len 4096 --taps 1 --no-target \
        --held-out-tokens 4096 --tokens 8192 --out "$work/s" --dry-run && says out "about 2 training and 1 held-out" &&
        [ ! -e "$work/s.pilot" ]
}

too_little() {
    head -c 20 "$work/ids.u16" >"$work/short.u16"
    run 1 extract --model "$tiny" --corpus "$work/short.u16" --held-out 0 --seq-len 32 --out "$work/s" --dry-run &&
        says err "do not fill one sequence of 32 tokens"
}

# On a file system that what can be needed at most does not fit on, and then what will be needed does not.
full_disk() {
    local disk=$work/disk
    mkdir -p "$disk"
    mount -t tmpfs -o size=11m none "$disk" || return 1
    run 0 extract "${small[@]}" --out "$disk/store" && run 0 cache verify "$disk/store" && rm -r "$disk/store" &&
        head -c 10m /dev/zero >"$disk/ballast" &&
        run 0 extract "${small[@]}" --taps 0 --no-target --codec raw:f32 --out "$disk/store" --dry-run &&
        says out "it does not fit" &&
        run 1 extract "${small[@]}" --taps 0 --no-target --codec raw:f32 --out "$disk/store" && says err "or give --force" &&
        run 1 extract "${small[@]}" --taps 0 --no-target --codec raw:f32 --out "$disk/store" --force &&
        says err "warning: about" && says err "the disk full" && rm "$disk/ballast" &&
        run 0 extract "${small[@]}" --taps 0 --no-target --codec raw:f32 --out "$disk/store" && run 0 cache verify "$disk/store"
    local result=$?
    df "$disk" | tail -1
    umount "$disk"
    return $result
}

# A dry run that was stopped, at any point, is not in the way of the next, nor of the real run.
stopped() {
    local signal moment process base=$work/stopped
    local command=(extract "${small[@]}" --codec klt:4 --out "$base")
    for signal in KILL INT; do
        for moment in 0.03 0.1 0.3; do
            # Not by timeout: it would die of its own SIGKILL before the program has ended.
            env --default-signal=INT "$build/extract" "${command[@]:1}" --dry-run --pilot-out "$work/parameters" >/dev/null 2>&1 &
            process=$!
            sleep $moment
            kill -s $signal $process 2>/dev/null
            wait $process 2>/dev/null
            [ $signal = KILL ] || [ ! -e "$base.pilot" ] || { echo "    an interrupted dry run left $(find "$base.pilot")" && return 1; }
            run 0 "${command[@]}" --dry-run --pilot-out "$work/parameters" && [ ! -e "$base.pilot" ] && [ ! -e "$base" ] || return 1
        done
    done
}

# left: what a dry run leaves that is killed while it fits its codecs
left() {
    local command=("$build/extract" "${small[@]}" --codec klt:4 --out "$work/left" --dry-run) i pilot=$work/left.pilot/pilot/data.mdb
    for ((i = 0; i < 40; i++)); do
        "${command[@]}" >/dev/null 2>&1 &
        local process=$!
        while [ ! -e "$pilot" ] && kill -0 $process 2>/dev/null; do :; done
        kill -9 $process 2>/dev/null
        wait $process 2>/dev/null
        [ -e "$pilot" ] && return 0
    done
    echo "    no dry run could be killed in time"
    return 1
}

# Whatever state it is in.
leftovers() {
    local command=(extract "${small[@]}" --codec klt:4 --out "$work/left") broken
    for broken in nothing data.mdb pilot/data.mdb cut; do
        left 2>/dev/null && case $broken in
            nothing) ;;
            cut) truncate -s 5000 "$work/left.pilot/data.mdb" ;;
            *) rm "$work/left.pilot/$broken" ;;
        esac && run 0 "${command[@]}" --dry-run && [ ! -e "$work/left.pilot" ] || return 1
    done
    left 2>/dev/null && run 0 "${command[@]}" && [ ! -e "$work/left.pilot" ] && run 0 cache verify "$work/left"
}

# A store that has the pilot's name is not removed, finished or not.
not_ours() {
    local mine=(extract "${small[@]}" --taps 0 --out "$work/own.pilot") before
    run 0 "${mine[@]}" || return 1
    for file in sealed none; do
        rm -f "$work/own.pilot/$file"
        before=$(sha256sum <"$work/own.pilot/data.mdb")
        run 1 extract "${small[@]}" --out "$work/own" --dry-run && says err "own.pilot: is a store that no dry run has made" &&
            run 0 extract "${small[@]}" --taps 0 --out "$work/own" && rm -r "$work/own" &&
            [ "$(sha256sum <"$work/own.pilot/data.mdb")" = "$before" ] || return 1
    done
    mkdir -p "$work/texts.pilot/pilot" && echo text >"$work/texts.pilot/a" && echo text >"$work/texts.pilot/pilot/b" || return 1
    run 1 extract "${small[@]}" --out "$work/texts" --dry-run && says err "holds other files" &&
        run 0 extract "${small[@]}" --taps 0 --out "$work/texts" && [ "$(cat "$work"/texts.pilot/{a,pilot/b})" = $'text\ntext' ]
}

check dry_run
check stopped
check leftovers
check not_ours
check sizes
check sample
check too_little
check_on_tmpfs full_disk
finish

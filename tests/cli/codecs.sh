#!/usr/bin/env bash
# codecs.sh: codecs on the command line of extract, and the pilot of those that are fitted.
. "$(dirname "$0")/lib.sh"
tiny=tests/golden/gguf-llama.gguf # 2 layers, 64 tokens, no tokenizer
ids=$work/ids.u16 held_out=$work/held.u16
perl -e 'srand(5); print pack("v*", map { int(rand(64)) } 1 .. 6000)' | tee "$held_out" >"$ids"
small=(--model "$tiny" --corpus "$ids" --held-out-corpus "$held_out" --held-out-tokens 320 --seq-len 16 --taps 1,1.mid,final)

wrong_usage() {
    local required=(--model m --out o --corpus c) text
    for text in klt klt:0 klt:x klt:kl= 12=zip ,raw raw:4; do
        run 2 extract "${required[@]}" --codec "$text" && says err "--codec: " || return 1
    done
    run 2 extract "${required[@]}" --codec kl=0.01 && says err '"kl=0.01": kl is not a tap' &&
        says err "final=klt:kl=0.01" || return 1
    run 2 extract "${required[@]}" --codec klt && says err "as klt:BITS or klt:kl=NATS" || return 1
    run 2 extract "${required[@]}" --pilot a --pilot-out b && says err "give one"
}

unfit_for_the_taps() {
    run 2 extract "${small[@]}" --out "$work/none" --codec 3=raw && says err "--codec: tap 3" &&
        run 2 extract "${small[@]}" --out "$work/none" --codec 0=raw && says err "tap 0 is not one of the store's taps" &&
        run 2 extract "${small[@]}" --out "$work/none" --codec raw,q8 && says err "the default has two codecs" &&
        run 2 extract "${small[@]}" --out "$work/none" --codec 1=raw,1=q8 && says err "tap 1 has two codecs" &&
        [ ! -e "$work/none" ] && run 2 extract "${small[@]}" --out "$work/plain" --pilot-out "$work/none" &&
        says err "no tap is stored with a codec that has parameters"
}

codec_per_tap() {
    run 0 extract "${small[@]}" --out "$work/mixed" --codec q8,1.mid=klt:3.0,final=lossless && says out "1.mid      klt:3 " &&
        says out "1          q8 " && says out "final      lossless" && says err "tap 1.mid, klt:3: spacing" &&
        run 0 cache verify "$work/mixed" && says out " 0 problems" && [ ! -e "$work/mixed/pilot" ] &&
        run 0 extract "${small[@]}" --out "$work/mixed" --codec 1.mid=klt:3,q8,2=lossless &&
        run 2 extract "${small[@]}" --out "$work/mixed" --codec q8,1.mid=klt:4,final=lossless &&
        says err "1.mid klt:3, 1 q8, final lossless" && says err "this command has 1.mid klt:4"
}

# Bounds of what the head loses are kept, and the finer one takes more.
loss_is_bounded() {
    run 0 extract "${small[@]}" --out "$work/loss" --codec final=klt:kl=0.001,1=klt:kl=0.00001 || return 1
    perl -ne 'if (/tap (\S+), klt:kl=(\S+): .*, ([\d.]+) bits a value, the head loses (\S+) nats/) {
            $seen++; $bad = 1 if $4 > $2 || $4 < $2 / 2; $bits{$1} = $3 }
        END { exit($seen != 2 || $bad || $bits{1} <= $bits{final}) }' "$work/err" || { cat "$work/err"; return 1; }
}

# export_all STORE: all states, in $work/NAME.TAP
export_all() {
    local tap
    for tap in 1 1.mid final; do
        run 0 cache export "$1" --tap $tap --out "$work/$(basename "$1").$tap" || return 1
    done
}

same_as() {
    local tap
    export_all "$1" || return 1
    for tap in 1 1.mid final; do cmp "$work/first.$tap" "$work/$(basename "$1").$tap" || return 1; done
}

same_bytes() {
    run 0 extract "${small[@]}" --out "$work/first" --codec klt:4 --threads 1 --pilot-out "$work/parameters" && export_all "$work/first" &&
        run 0 extract "${small[@]}" --out "$work/two" --codec klt:4 --threads 2 --pilot-out "$work/again" && same_as "$work/two" &&
        cmp "$work/parameters" "$work/again"
}

# A dry run fits codecs too. (Of records as small as these it counts the pages, a summary does not.)
foretold() {
    run 0 extract "${small[@]}" --out "$work/dry" --codec klt:4,final=klt:kl=0.001 --dry-run --json && cp "$work/out" "$work/forecast" &&
        run 0 extract "${small[@]}" --out "$work/real" --codec klt:4,final=klt:kl=0.001 --json && [ ! -e "$work/dry.pilot" ] || return 1
    local field
    for field in "$work/forecast" "$work/out"; do grep -o '"bits_per_value": [0-9.]*' "$field" | cut -d' ' -f2 >"$field.bits"; done
    paste "$work/forecast.bits" "$work/out.bits" | awk '{ print } $1 < 0.5 * $2 || $1 > 2 * $2 { bad = 1 } END { exit bad || NR != 4 }'
}

# Killed wherever it stands, in the pilot or behind it, the same command makes the same bytes.
killed() {
    local delay
    for delay in 0.03 0.07 0.1 0.15; do
        rm -rf "$work/killed"
        "$build/extract" "${small[@]}" --out "$work/killed" --codec klt:4 >"$work/out" 2>"$work/err" &
        local process=$!
        sleep $delay
        kill -9 $process 2>/dev/null
        wait $process 2>/dev/null
        run 0 extract "${small[@]}" --out "$work/killed" --codec klt:4 && same_as "$work/killed" || return 1
        [ ! -e "$work/killed/pilot" ] || return 1
    done
}

# Killed when the pilot is done: its states are there for the next.
killed_behind_the_pilot() {
    rm -rf "$work/killed"
    "$build/extract" "${small[@]}" --out "$work/killed" --codec klt:4 >"$work/out" 2>"$work/err" &
    local process=$!
    while ! grep -q "pilot: tap final" "$work/err" && kill -0 $process 2>/dev/null; do :; done
    kill -9 $process 2>/dev/null
    wait $process 2>/dev/null
    run 0 extract "${small[@]}" --out "$work/killed" --codec klt:4 && same_as "$work/killed" && [ ! -e "$work/killed/pilot" ]
}

# The pilot's sequences run through the model once, unless the disk has no room for their states beside the store; the
# records are the same.
states_of_the_pilot() {
    local room disk=$work/disk computed=()
    local little=(extract --model "$tiny" --corpus "$ids" --held-out 0.1 --seq-len 16 --taps 1,final --no-target --codec klt:4)
    mkdir -p "$disk"
    for room in 5m 10m; do
        mount -t tmpfs -o size=$room none "$disk" || return 1
        run 0 "${little[@]}" --out "$disk/store" --json
        computed+=("$(sed -nE 's/^ *"computed_tokens": ([0-9]+),$/\1/p' "$work/out")")
        run 0 cache export "$disk/store" --tap final --out "$work/room.$room" && [ ! -e "$disk/store/pilot" ]
        local result=$?
        umount "$disk"
        [ $result = 0 ] || return 1
    done
    echo "    ${computed[*]} tokens"
    cmp "$work/room.5m" "$work/room.10m" && [ "${computed[1]}" = 5984 ] && [ "${computed[0]}" -gt 6600 ]
}

# Shards need one pilot; with it they hold what the whole does.
shards() {
    local i
    run 2 extract "${small[@]}" --out "$work/0" --codec klt:4 --shard 0/2 && says err "--pilot-out FILE" || return 1
    for i in 0 1; do
        run 0 extract "${small[@]}" --out "$work/$i" --codec klt:4 --shard $i/2 --pilot "$work/parameters" || return 1
    done
    run 0 cache export "$work/0" "$work/1" --tap final --out "$work/shards.final" && cmp "$work/first.final" "$work/shards.final"
}

# They can be fitted before any shard begins, on a machine that keeps nothing else.
shards_of_a_pilot_alone() {
    local i
    run 0 extract "${small[@]}" --out "$work/alone" --codec klt:4 --dry-run --pilot-out "$work/fitted" && [ ! -e "$work/alone" ] &&
        [ ! -e "$work/alone.pilot" ] && says err "pilot: tap final, klt:4: spacing" || return 1
    for i in 0/1 0/3 1/3 2/3; do
        run 0 extract "${small[@]}" --out "$work/of.${i/\//.}" --codec klt:4 --shard $i --pilot "$work/fitted" || return 1
    done
    run 0 cache export "$work/of.0.1" --tap final --out "$work/one.final" &&
        run 0 cache export "$work"/of.?.3 --tap final --out "$work/three.final" && cmp "$work/one.final" "$work/three.final"
}

pilot_files() {
    head -c 9000 "$work/parameters" >"$work/short"
    perl -e 'local $/; $_ = <STDIN>; substr($_, 5000, 1) ^= "\1"; print' <"$work/parameters" >"$work/flipped"
    run 1 extract "${small[@]}" --out "$work/bad" --codec klt:4 --pilot "$work/short" && says err "--pilot: $work/short: is damaged" &&
        run 1 extract "${small[@]}" --out "$work/bad" --codec klt:4 --pilot "$work/flipped" && says err "is damaged" &&
        run 1 extract "${small[@]}" --out "$work/bad" --codec klt:4 --pilot "$ids" && says err "is not a file that --pilot-out has written" &&
        run 2 extract "${small[@]}" --out "$work/finer" --codec klt:5 --pilot "$work/parameters" && says err "with klt:4, not klt:5" &&
        run 2 extract --model tests/golden/llama --corpus "$ids" --seq-len 16 --taps final --out "$work/other" --codec klt:4 --pilot "$work/parameters" &&
        says err "was made with another model" &&
        run 0 extract "${small[@]}" --out "$work/finer" --codec klt:5 --pilot-out "$work/five" &&
        run 2 extract "${small[@]}" --out "$work/first" --codec klt:4 --pilot "$work/five" && says err "with klt:5, not klt:4" &&
        run 0 extract "${small[@]}" --out "$work/first" --codec klt:4 --pilot "$work/parameters"
}

# A text unlike the pilot's is named, once for each tap; the pilot's own is not.
foreign_text() {
    perl -e 'srand(7); print pack("v*", map { int(rand(3)) } 1 .. 3000)' >"$work/few.u16"
    local few=(--model "$tiny" --held-out 0 --seq-len 16 --taps 1,final --codec klt:4 --no-target)
    run 0 extract "${few[@]}" --corpus "$work/few.u16" --out "$work/few" --pilot-out "$work/of_few" || return 1
    if grep -q warning "$work/err"; then cat "$work/err"; return 1; fi
    run 0 extract "${few[@]}" --corpus "$ids" --out "$work/foreign" --pilot "$work/of_few" &&
        says err "warning: tap 1, train sequence" && says err "warning: tap final, train sequence" &&
        says err "this text is unlike the text that klt:4 was fitted to" && [ "$(grep -c warning "$work/err")" = 2 ]
}

# Who fits klt to fewer tokens than its basis wants is told so, before it is done; others are not.
too_few_tokens() {
    local few=("${small[@]}" --tokens 96) said="klt is fitted to 96 tokens, fewer than 4 for each of a state's 32 values"
    run 0 extract "${few[@]}" --codec q8,1=klt:4 --dry-run --out "$work/thin" && says err "extract: warning: $said" &&
        run 0 extract "${few[@]}" --codec q8,1=klt:4 --out "$work/thin" && says err "extract: warning: $said" &&
        [ "$(grep -c "klt is fitted" "$work/err")" = 1 ] &&
        run 0 cache recode "$work/thin" --codec klt:4 --out "$work/thin4" && says err "cache recode: warning: $said" &&
        run 0 cache bench "$work/thin" --codecs klt:4,raw && says err "cache bench: warning: $said" || return 1
    run 0 cache bench "$work/thin" --codecs raw && run 0 extract "${few[@]}" --codec q8 --out "$work/plain96" || return 1
    ! grep -q "klt is fitted" "$work/err" && run 0 extract "${small[@]}" --tokens 128 --codec klt:4 --out "$work/enough" &&
        ! grep -q "klt is fitted" "$work/err"
}

check wrong_usage
check unfit_for_the_taps
check codec_per_tap
check loss_is_bounded
check same_bytes
check foretold
check killed
check killed_behind_the_pilot
check_on_tmpfs states_of_the_pilot
check shards
check shards_of_a_pilot_alone
check pilot_files
check foreign_text
check too_few_tokens
finish

#!/usr/bin/env bash
# merge.sh: cache merge: the shards as one store that is the unsharded one, and what is refused.
. "$(dirname "$0")/lib.sh"
tiny=tests/golden/gguf-llama.gguf # 2 layers, 64 tokens, no tokenizer
ids=$work/ids.u16 held_out=$work/held.u16
perl -e 'srand(3); print pack("v*", map { int(rand(64)) } 1 .. 3000)' | tee "$held_out" >"$ids"
extraction=(extract --model "$tiny" --corpus "$ids" --held-out-corpus "$held_out" --held-out-tokens 160 --seq-len 16
    --taps 1,1.mid,final)
run 0 "${extraction[@]}" --out "$work/whole" || exit 1
for shard in 0 1 2; do run 0 "${extraction[@]}" --out "$work/shard$shard" --shard $shard/3 || exit 1; done

wrong_usage() {
    run 2 cache merge --out "$work/s" && says err "the shards are missing" &&
        run 2 cache merge "$work/shard0" && says err "--out is missing"
}

merged() {
    local tap
    run 0 cache merge "$work"/shard? --out "$work/merged" && says out "187 train and 10 held-out sequences, finished" &&
        run 0 cache verify "$work/merged" "$work/whole" || return 1
    for tap in 1 1.mid final; do
        run 0 cache export --tap $tap --out "$work/a" "$work/whole" &&
            run 0 cache export --tap $tap --out "$work/b" "$work/merged" && cmp "$work/a" "$work/b" || return 1
    done
    run 0 cache info --json "$work/whole" && grep -E '"(bytes|train|held_out|fingerprint|sealed)"' "$work/out" >"$work/a" &&
        run 0 cache info --json "$work/merged" && grep -E '"(bytes|train|held_out|fingerprint|sealed)"' "$work/out" >"$work/b" &&
        diff <(grep -v '"bytes"' "$work/a") <(grep -v '"bytes"' "$work/b")
}

# For extract it is the store that the command without --shard makes.
extract_takes_it() {
    run 0 "${extraction[@]}" --out "$work/whole" && sed -E "s/whole/merged/; /peak memory/d" "$work/out" >"$work/a" &&
        run 0 "${extraction[@]}" --out "$work/merged" && diff "$work/a" <(sed '/peak memory/d' "$work/out")
}

again() { run 0 cache merge "$work"/shard? --out "$work/merged" && says out "finished"; }

refusals() {
    run 2 cache merge "$work/shard0" "$work/shard2" --out "$work/s" && says err "all 3 are needed" &&
        run 2 cache merge "$work/shard0" "$work/shard1" "$work/shard1" --out "$work/s" && says err "are both shard 1" &&
        run 2 cache merge "$work"/shard? --out "$work/shard0" && says err "shard0: is a part of what is read" &&
        run 1 cache merge "$work"/shard? --out "$work/whole/data.mdb" && [ ! -e "$work/s" ]
}

damaged_shard() {
    cp -r "$work/shard2" "$work/damaged2"
    printf damage | dd of="$work/damaged2/data.mdb" bs=1 conv=notrunc status=none \
        seek="$(LC_ALL=C grep -obUa OFRR "$work/damaged2/data.mdb" | sed -n '5s/:.*//p')"
    run 1 cache merge "$work/shard0" "$work/shard1" "$work/damaged2" --out "$work/s" && says err damaged2 && says err "tap "
}

check wrong_usage
check merged
check extract_takes_it
check again
check refusals
check damaged_shard
finish

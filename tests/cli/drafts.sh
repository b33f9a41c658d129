#!/usr/bin/env bash
# drafts.sh: `train` with heads of kind draft: what they learn, and that their bytes depend on nothing else.
. "$(dirname "$0")/lib.sh"
store=$work/store
"$build/tests/bench/make_store" "$store" || exit 1
draft=(--store "$store" --tap 1+3 --head draft --init ridge --draft_vocab 40 --rate 5e-3 --warmup 2 --steps 30 --evaluate 10)
id=1+3-draft-ridge-distillation-0.005-draft_vocab40-warmup2

# field FILE NAME LINE: a number of a line of metrics, counted from the first evaluation
evaluations() {
    python3 - "$1" <<'END'
import json, sys
lines = [json.loads(line) for line in open(sys.argv[1])]
held = [line for line in lines if "hits" in line]
assert [line["step"] for line in held] == [0, 10, 20, 30, 30], held
for line in held:
    assert len(line["hits"]) == len(line["accepted"]) == 3
    assert line["agreement"] == line["hits"][0] == line["accepted"][0]
    assert all(a >= b for a, b in zip(line["accepted"], line["accepted"][1:]))
    assert all(0 <= a <= h <= 1 for a, h in zip(line["accepted"], line["hits"]))
    assert 0 < line["kl"] < line["held_out_loss"]
assert held[-1]["whole"] and held[3]["kl"] < held[0]["kl"]
# The next token follows from the one before nine times out of ten.
assert held[-1]["hits"][0] > 0.5 and held[-1]["hits"][0] > held[0]["hits"][0], held[-1]
losses = [line["loss"] for line in lines if "loss" in line]
assert len(losses) == 30 and sum(losses[-5:]) < sum(losses[:5]), losses
END
}

learns() {
    run 0 train "${draft[@]}" --out "$work/alone" && evaluations "$work/alone/trials/$id/metrics.jsonl" &&
        grep -q '"draft_vocab": 40' "$work/alone/trials/$id/config.json" && says out "right at steps"
}

same_trial() {
    cmp "$work/alone/trials/$id/head.safetensors" "$1/trials/$id/head.safetensors" &&
        diff <(without_times "$work/alone/trials/$id/metrics.jsonl") <(without_times "$1/trials/$id/metrics.jsonl")
}

same_bytes_among_others() {
    cat >"$work/sweep.yaml" <<'END'
steps: 30
evaluate: 10
defaults: {rate: 5e-3, warmup: 2}
trials:
  - {tap: 2, head: affine, init: ridge}
  - {tap: 1+3, head: draft, init: ridge, draft_vocab: 40}
  - {tap: 2+final, head: draft, init: random, draft_vocab: 20, unroll: 5, unroll_decay: 0.8, output: untied}
END
    run 0 train --store "$store" --sweep "$work/sweep.yaml" --out "$work/among" --threads 1 && same_trial "$work/among"
}

# Whatever the number of steps it looks ahead, and of tokens it has, it learns.
other_drafts_learn() {
    python3 - "$work"/among/trials/2+final-draft-untied-random-*/metrics.jsonl <<'END'
import json, sys
held = [line for line in map(json.loads, open(sys.argv[1])) if "hits" in line]
assert held[-1]["kl"] < 0.9 * held[0]["kl"], held
END
}

same_bytes_after_a_kill() {
    local process
    "$build/train" "${draft[@]}" --checkpoint 3 --out "$work/killed" >/dev/null 2>&1 &
    process=$!
    while [ "$(grep -c '"loss"' "$work/killed/trials/$id/metrics.jsonl" 2>/dev/null || true)" -lt 8 ] 2>/dev/null &&
        kill -0 $process 2>/dev/null; do :; done
    kill -9 $process 2>/dev/null
    wait $process 2>/dev/null
    run 0 train "${draft[@]}" --checkpoint 3 --out "$work/killed" && same_trial "$work/killed"
}

# A tap that holds what is not a number fails the drafts that read it, by a regression or without, and no other trial.
a_broken_tap() {
    "$build/tests/bench/make_store" "$work/broken" broken=2 &&
        cat >"$work/broken.yaml" <<'END'
steps: 20
defaults: {warmup: 2, head: draft, draft_vocab: 40}
trials:
  - {tap: 1+2, init: ridge}
  - {tap: 2+3, init: random}
  - {tap: 1+3, init: ridge}
END
    run 0 train --store "$work/broken" --sweep "$work/broken.yaml" --out "$work/some" &&
        run 0 train --store "$work/broken" --tap 1+3 --head draft --init ridge --draft_vocab 40 --warmup 2 --steps 20 --out "$work/one" &&
        [ "$(grep -l '"failed"' "$work"/some/trials/*/metrics.jsonl | wc -l)" = 2 ] &&
        cmp "$work"/some/trials/1+3-*/head.safetensors "$work"/one/trials/*/head.safetensors
}

wrong_drafts() {
    run 2 train "${draft[@]}" --out "$work/none" --loss cross-entropy && says err "by distillation" &&
        run 2 train "${draft[@]}" --out "$work/none" --vocabulary subset && says err "draft_vocab" &&
        run 2 train --store "$store" --tap 3+1 --head draft --out "$work/none" && says err "do not ascend" &&
        run 2 train --store "$store" --tap 1+2 --head affine --out "$work/none" && says err "reads one tap" &&
        run 2 train --store "$store" --tap 1+2+3+final --head draft --out "$work/none" && says err "more than 3 taps" &&
        run 2 train --store "$store" --tap 1 --head draft --unroll 8 --out "$work/none" && says err "unroll" &&
        run 2 train --store "$store" --tap 1 --head draft --draft_vocab 62 --out "$work/none" && says err "62 tokens" &&
        [ ! -e "$work/none" ]
}

listed_before() {
    run 0 train "${draft[@]}" --dry-run && says out "$id"
}

check learns
check same_bytes_among_others
check other_drafts_learn
check same_bytes_after_a_kill
check a_broken_tap
check wrong_drafts
check listed_before
finish
